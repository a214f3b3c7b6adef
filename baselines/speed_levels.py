"""One knob for speed: the lockable SM clocks where the grid has some, power caps otherwise."""

from __future__ import annotations

from envs.actions.base import KnobGrid
from envs.knobs import Knobs


class SpeedLevels:
    """Levels of speed from slow to fast, at the highest batch limit.

    Args:
        grid: What there is to choose from.

    Attributes:
        by_clock: Whether levels are clocks; a power budget then lowers the cap beside them.
        values: Clock in MHz, or cap in watts, of each level.
    """

    def __init__(self, grid: KnobGrid) -> None:
        self._grid = grid
        self.by_clock = len(grid.sm_clocks_mhz) > 0
        self.values = grid.sm_clocks_mhz if self.by_clock else grid.power_caps_w

    def highest(self, caps: int) -> int:
        """Returns the fastest level that so many of the lowest caps, those in the budget, leave."""
        return len(self.values) - 1 if self.by_clock else caps - 1

    def knobs(self, level: int, caps: int) -> Knobs:
        """Returns a level's knobs, or those of the fastest one that the budget leaves.

        Args:
            level: Place in :attr:`values`.
            caps: How many of the lowest caps keep the budget.
        """
        seqs = self._grid.max_num_seqs[-1]
        level = min(level, self.highest(caps))
        if self.by_clock:
            return Knobs(self._grid.power_caps_w[caps - 1], seqs, self.values[level])
        return Knobs(self.values[level], seqs)
