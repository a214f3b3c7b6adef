"""Which power caps a budget leaves."""

from __future__ import annotations

from bisect import bisect_right

from envs.context import ControlContext
from envs.observations import Observation

_ROUNDING = 1e-4
"""Relative slack for the float32 observation: 1,000 W may decode as 999.9999 W."""


def caps_within(context: ControlContext, observation: Observation) -> int:
    """Returns how many caps of the grid, from the lowest, keep the GPUs within the budget.

    The lowest cap always counts: a server cannot be told to draw less.
    """
    limit_w = float(context.cap_limit_w(observation.power_budget_w))
    caps = context.grid.power_caps_w
    return max(1, bisect_right(caps, limit_w + _ROUNDING * abs(limit_w)))
