"""Plans: which knobs in which phase of the horizon, and what the budget leaves of them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from envs.actions.base import KnobGrid

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_ROUNDING = 1e-4
"""Relative slack for budgets that were read from a float32 observation."""
_BELIEVED = 4.0
"""Doublings of the price of violations after which plans with less than Baseline's power end."""


class PlanSpace:
    """The plans there are: a choice of knobs for each phase.

    Phases grow with their distance, each about twice as long as the one before: what comes soon is
    decided finely, what comes later is only needed to value what comes soon.

    Args:
        grid: The knobs to choose from.
        batches: How many of the highest batch limits are among the choices.
        intervals: Control intervals of the horizon.
        phases: Phases of a plan.

    Attributes:
        choices: Knobs of each choice, shape ``(choices, 3)``: cap in watts, batch limit, clock in
            MHz (infinite: free). The first ones are the caps, ascending, with the highest batch
            limit and a free clock; a clock is limited under the highest cap only.
        caps: How many of them those are.
        phase_of: Phase of each interval, shape ``(intervals,)``.
    """

    def __init__(self, grid: KnobGrid, batches: int, intervals: int, phases: int) -> None:
        self._caps_w = np.array(grid.power_caps_w)
        self._clocks_mhz = np.array([math.inf, *grid.sm_clocks_mhz[:-1][::-1]])
        self._seqs = np.array(grid.max_num_seqs[::-1][:batches], dtype=np.float64)
        highest_w = grid.power_caps_w[-1]
        # Where the clock is limited the cap hardly ever is: one of both moves the power.
        powers = [(cap_w, math.inf) for cap_w in grid.power_caps_w]
        powers += [(highest_w, clock_mhz) for clock_mhz in grid.sm_clocks_mhz[:-1][::-1]]
        self.choices = np.array(
            [
                (cap_w, seqs, clock_mhz)
                for seqs in grid.max_num_seqs[::-1][:batches]
                for cap_w, clock_mhz in powers
            ]
        )
        self.caps = len(self._caps_w)
        self.phases = min(phases, intervals)
        shares = (2.0 ** np.arange(1, self.phases + 1) - 1.0) / (2.0**self.phases - 1.0)
        ends = np.maximum(np.rint(shares * intervals).astype(int), np.arange(1, self.phases + 1))
        self.phase_of = np.searchsorted(ends, np.arange(intervals), side="right")

    def highest_caps_w(self, cap_limit_w: FloatArray) -> FloatArray:
        """Returns the highest caps of the grid within limits; the lowest one where none is.

        Args:
            cap_limit_w: Limits in watts per GPU, any shape.
        """
        limit_w = np.where(np.isfinite(cap_limit_w), cap_limit_w * (1.0 + _ROUNDING), np.inf)
        index = np.searchsorted(self._caps_w, limit_w, side="right") - 1
        return self._caps_w[np.maximum(index, 0)]

    def lowest(self, prices: FloatArray) -> FloatArray:
        """Returns the lowest knobs that plans may choose, by the price of violations.

        Holding requests back pays off later, if at all. A server that violates more often than it
        is allowed to does not know how far behind it is: each time the price has doubled, four
        batch limits less are left to it, at last only the highest. From the fourth doubling on
        caps and clocks follow, half of them a doubling: a model that has been wrong for so long
        is not to be believed that anything but Baseline's knobs keeps up with Baseline.

        Args:
            prices: Price of violations over the lowest there is, shape ``(servers,)``.

        Returns:
            Cap, batch limit and clock, shape ``(servers, 3)``.
        """
        doublings = np.log2(np.maximum(prices, 1.0)) + _ROUNDING
        seqs = self._seqs[_left(len(self._seqs), 4.0 * doublings)]
        late = np.maximum(doublings - _BELIEVED, 0.0)
        caps_w, clocks_mhz = (
            levels[_left(len(levels), len(levels) / 2.0 * late)]
            for levels in (self._caps_w[::-1], self._clocks_mhz)
        )
        return np.stack([caps_w, seqs, clocks_mhz], axis=-1)

    def knobs(
        self, plans: IntArray, cap_limit_w: FloatArray, lowest: FloatArray | None = None
    ) -> FloatArray:
        """Returns the knobs of plans in every interval, with caps lowered to the budget.

        Args:
            plans: Choices by phase, shape ``(servers, plans, phases)``.
            cap_limit_w: Highest cap that the budget allows, shape ``(servers, intervals)``.
            lowest: Knobs that lower ones are raised to, shape ``(servers, 3)``.

        Returns:
            Shape ``(servers, plans, intervals, 3)``.
        """
        intervals = cap_limit_w.shape[1]
        knobs: FloatArray = self.choices[plans[..., self.phase_of[:intervals]]]
        if lowest is not None:
            knobs = np.maximum(knobs, lowest[:, None, None, :])
        highest_w = self.highest_caps_w(cap_limit_w)[:, None, :]
        knobs[..., 0] = np.minimum(knobs[..., 0], highest_w)
        return knobs


def _left(levels: int, taken: FloatArray) -> IntArray:
    """Returns the index of the last of some levels, highest first, that is left."""
    index: IntArray = np.maximum(levels - 1 - np.floor(taken).astype(np.int64), 0)
    return index
