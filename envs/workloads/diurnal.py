"""Diurnal arrivals: a Poisson process whose rate follows the time of day."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from envs.fields import Range
from envs.quantities import FractionBelowOne
from envs.workloads.synthetic import SyntheticWorkload, UnitArrivals

_STEPS_PER_DAY = 4096


class DailyArrivals:
    """Poisson arrivals of rate ``mean * (1 - swing * cos(time of day))``, by time rescaling.

    The rate is constant within each of 4096 equal steps of the day, so that the integrated
    rate is a line of straight pieces, through the exact values at the ends of the steps.

    Args:
        rng: Source of every draw.
        rate_per_s: Mean arrival rate in requests per second.
        swing: Amplitude over mean, at least 0 and below 1.
        period_s: Length of a day in seconds.
        start: Time of day at the beginning, as a fraction of the day after the trough.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        rate_per_s: float,
        swing: float,
        period_s: float,
        start: float,
    ) -> None:
        self._unit = UnitArrivals(rng)
        self._period_s = period_s
        self._days_per_request = 1.0 / (rate_per_s * period_s)
        turn = 2.0 * math.pi
        day = np.linspace(0.0, 1.0, _STEPS_PER_DAY + 1)
        angle = turn * (start + day)
        self._time_s = period_s * day
        self._expected = day - swing * (np.sin(angle) - math.sin(turn * start)) / turn
        self._expected[-1] = 1.0

    def next_block(self) -> NDArray[np.float64]:
        """Returns the next arrival times in seconds."""
        expected = self._unit.next_block() * self._days_per_request
        days = np.floor(expected)
        expected -= days
        days *= self._period_s
        days += np.interp(expected, self._expected, self._time_s)
        return days


@dataclass(kw_only=True)
class Diurnal(SyntheticWorkload):
    """Arrivals whose rate swings like a day: a trough, a peak, and back.

    Over whole days the mean rate is the configured one.

    Attributes:
        peak_to_trough: Highest over lowest arrival rate (3 is assumed).
        period_s: Length of a day in seconds; the default compresses one into a run of
            10 minutes (assumed). 86400 is real time.
        start: Time of day at the beginning, as a fraction of the day after the trough.
    """

    peak_to_trough: Annotated[float, Range(least=1.0, most=1000.0)] = 3.0
    period_s: Annotated[float, Range(least=1.0, most=1e8)] = 600.0
    start: FractionBelowOne = 0.0

    @override
    def arrivals(self, rng: np.random.Generator, rate_per_s: float) -> DailyArrivals:
        swing = (self.peak_to_trough - 1.0) / (self.peak_to_trough + 1.0)
        return DailyArrivals(rng, rate_per_s, swing, self.period_s, self.start)
