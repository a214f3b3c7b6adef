"""The same knobs throughout an episode, for one server or for many at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from baselines.base import Controller, Preparation
from envs.context import ControlContext
from envs.knobs import Knobs


class FixedKnobs(Controller):
    """Requests the same knobs in every interval and ignores power budgets.

    Measurements use it: Baseline's output on the same arrivals, an oracle's look ahead, saturated
    servers.
    :class:`baselines.static.Static` is the controller that users configure.

    Args:
        knobs: The knobs. Fields that are arrays, shape ``(servers,)``, hold one value for each
            server of a batch; plain numbers hold for every server.
    """

    def __init__(self, knobs: Knobs) -> None:
        self._knobs = knobs

    @classmethod
    def per_server(cls, knobs: Sequence[Knobs]) -> FixedKnobs:
        """Returns a controller of a batch of servers, each with its own knobs."""
        clocks = [one.sm_clock_mhz for one in knobs]
        return cls(
            Knobs(
                np.array([one.power_cap_w for one in knobs]),
                np.array([one.max_num_seqs for one in knobs]),
                None
                if all(clock is None for clock in clocks)
                else np.array([np.inf if clock is None else clock for clock in clocks]),
            )
        )

    @override
    def bind(self, context: ControlContext) -> None:
        self._context = context

    def prepare(self, preparation: Preparation) -> None:
        """Needs no preparation."""

    @override
    def predict(
        self,
        observation: NDArray[np.floating[Any]],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        seen = self._context.layout.decode(observation)
        knobs = self._knobs
        if np.ndim(observation) == 2:
            servers = len(observation)
            knobs = Knobs(*(v if v is None else np.broadcast_to(v, servers) for v in knobs))
        return self._context.encoding.encode(knobs, seen.last_knobs), None
