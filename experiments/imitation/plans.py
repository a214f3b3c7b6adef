"""The plans that are tried from a state: every first action, with several continuations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.actions.base import KnobGrid

IntArray = NDArray[np.int64]


class Plans(NamedTuple):
    """Plans of two phases, by indices of the grid.

    Attributes:
        first: Indices of the first phase's knobs, one for each knob of the grid, shape
            ``(plans, knobs)``: cap, batch limit, and the clock limit where it is a knob.
        later: Those of the rest of the horizon, likewise.
        sizes: How many levels each knob of the grid has.
    """

    first: IntArray
    later: IntArray
    sizes: tuple[int, ...]

    @property
    def action(self) -> IntArray:
        """Number of each plan's first action among all of the grid, shape ``(plans,)``."""
        return np.asarray(np.ravel_multi_index(tuple(self.first.T), self.sizes))

    @classmethod
    def of_grid(cls, grid: KnobGrid, *, lowered: int, clocks: int) -> Plans:
        """Returns the plans for a grid.

        Every power level is followed by every other one under the highest batch limit. A lower
        batch limit is kept: requests that run go on, so that lowering it costs little at first,
        and a plan that lifts it later would put the cost off again and again.

        Power levels are the caps; where the clock is a knob they are the highest clock limits
        under the highest cap, which move the same power more finely (a power budget lowers the
        cap in any case).

        Args:
            grid: The grid; only how many levels it has matters.
            lowered: How many batch limits below the highest are tried.
            clocks: How many clock limits are tried where the clock is a knob.
        """
        caps, batches = len(grid.power_caps_w), len(grid.max_num_seqs)
        levels = len(grid.sm_clocks_mhz)
        sizes: tuple[int, ...] = (caps, batches)
        powers: list[tuple[int, ...]] = [(cap,) for cap in range(caps)]
        if levels:
            sizes = (*sizes, levels)
            powers = [(caps - 1, clock) for clock in range(max(0, levels - clocks), levels)]
        top = batches - 1
        pairs = [(_knobs(one, top), _knobs(other, top)) for one in powers for other in powers]
        for batch in range(max(0, top - lowered), top):
            pairs += [(_knobs(power, batch),) * 2 for power in powers]
        first, later = np.array(pairs).swapaxes(0, 1)
        return cls(first, later, sizes)


def _knobs(power: tuple[int, ...], batch: int) -> tuple[int, ...]:
    """Returns the indices of cap, batch limit and, if there is one, clock limit."""
    return (power[0], batch, *power[1:])
