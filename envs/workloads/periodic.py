"""A Poisson process whose rate repeats itself, such as a day, by time rescaling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.workloads.synthetic import UnitArrivals


class PeriodicArrivals:
    """Poisson arrivals with a rate that is constant within pieces of a period, which repeats.

    Args:
        rng: Source of every draw.
        rate_per_s: Mean arrival rate in requests per second.
        period_s: Length of the period in seconds.
        fractions: Ends of the pieces as ascending fractions of the period, from 0 to 1, shape
            ``(n + 1,)``.
        expected: The fraction of the period's requests that come before each end, from 0 to 1,
            shape ``(n + 1,)``.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        rate_per_s: float,
        period_s: float,
        fractions: NDArray[np.float64],
        expected: NDArray[np.float64],
    ) -> None:
        self._unit = UnitArrivals(rng)
        self._period_s = period_s
        self._periods_per_request = 1.0 / (rate_per_s * period_s)
        self._time_s = period_s * fractions
        self._expected = expected

    def next_block(self) -> NDArray[np.float64]:
        """Returns the next arrival times in seconds."""
        expected = self._unit.next_block() * self._periods_per_request
        periods = np.floor(expected)
        expected -= periods
        periods *= self._period_s
        periods += np.interp(expected, self._expected, self._time_s)
        return periods
