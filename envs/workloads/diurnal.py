"""Diurnal arrivals: a Poisson process whose rate follows the time of day."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from typing_extensions import override

from envs.fields import Range
from envs.quantities import FractionBelowOne
from envs.workloads.periodic import PeriodicArrivals
from envs.workloads.synthetic import SyntheticWorkload

_STEPS_PER_DAY = 4096


class DailyArrivals(PeriodicArrivals):
    """Poisson arrivals of rate ``mean * (1 - swing * cos(time of day))``.

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
        turn = 2.0 * math.pi
        day = np.linspace(0.0, 1.0, _STEPS_PER_DAY + 1)
        angle = turn * (start + day)
        expected = day - swing * (np.sin(angle) - math.sin(turn * start)) / turn
        expected[-1] = 1.0
        super().__init__(rng, rate_per_s, period_s, day, expected)


@dataclass(kw_only=True)
class Diurnal(SyntheticWorkload):
    """Arrivals whose rate swings like a day: a trough, a peak, and back.

    Over whole days the mean rate is the configured one.

    Attributes:
        peak_to_trough: Highest over lowest arrival rate. A day of a public service (ServeGen's
            DeepSeek-R1 pool) has 3.2 where a sine is fitted to it, and 9.9 between its busiest and
            quietest ten minutes: ``workload=servegen`` replays that.
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
