"""Decides about a server that is not there, so that the first decision compiles nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from baselines.twin.twins import Twins
from envs.context import ControlContext
from envs.simulator.kernel.estimate import place_prefilling
from envs.simulator.server_spec import ServerSpec

if TYPE_CHECKING:
    from baselines.twin.mpc import Mpc


def rehearse(settings: Mpc, context: ControlContext, spec: ServerSpec) -> None:
    """Estimates, plans and corrects once.

    What is not there yet is compiled, which takes seconds, in which a live server would be left
    alone.

    Args:
        settings: How to estimate and plan.
        context: What is known about the server.
        spec: A simulated server like it.
    """
    twins = Twins(settings, context, spec, 1)
    layout = context.layout
    busy = layout.decode(np.full((1, len(layout.high)), 0.5, dtype=np.float32))
    for number in range(1 + max(1, round(settings.replan_s / context.interval_s))):
        twins.decide(busy, np.array([number == 0]), time.perf_counter)
    # Few states have a prompt that is partly computed.
    place_prefilling(int(twins.fleet.addresses[0]), 0, 2, 1, 1, 0.0)
