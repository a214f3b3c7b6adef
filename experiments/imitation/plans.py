"""The plans that are tried from a state: every first action, with several continuations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


class Plans(NamedTuple):
    """Plans of two phases, by indices of the grid.

    Attributes:
        first: Cap and batch limit of the first phase, shape ``(plans, 2)``.
        later: Those of the rest of the horizon, likewise.
        caps: Power caps of the grid.
        batches: Batch limits of the grid.
    """

    first: IntArray
    later: IntArray
    caps: int
    batches: int

    @property
    def action(self) -> IntArray:
        """Number of each plan's first action among all of the grid, shape ``(plans,)``."""
        return np.asarray(self.first[:, 0] * self.batches + self.first[:, 1])

    @classmethod
    def of_grid(cls, caps: int, batches: int, lowered: int) -> Plans:
        """Returns the plans for a grid.

        Every cap is followed by every other one under the highest batch limit. A lower batch
        limit, which matters less often, is kept, or lifted later.

        Args:
            caps: Number of power caps.
            batches: Number of batch limits.
            lowered: How many batch limits below the highest are tried.
        """
        top = batches - 1
        pairs = [((cap, top), (later, top)) for cap in range(caps) for later in range(caps)]
        for batch in range(max(0, top - lowered), top):
            for cap in range(caps):
                pairs += [((cap, batch), (cap, batch)), ((cap, batch), (cap, top))]
        first, later = np.array(pairs).swapaxes(0, 1)
        return cls(first, later, caps, batches)
