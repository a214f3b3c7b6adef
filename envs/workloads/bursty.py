"""Bursty arrivals: a Poisson process whose rate jumps between a quiet and a busy level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from envs.errors import ConfigurationError
from envs.fields import Range
from envs.quantities import Hold
from envs.workloads.synthetic import SyntheticWorkload, UnitArrivals

FEWEST_REQUESTS = 0.01
"""Requests in a burst and the quiet time after it, on average; with fewer, thousands of changes of
state would have to be drawn for each request, to no effect."""
_SOJOURNS = 64  # even, so that every batch begins in the state in which the episode began


class ModulatedArrivals:
    """A Markov-modulated Poisson process with two states, by time rescaling.

    Args:
        rng: Source of every draw.
        rates_per_s: Arrival rates in the two states, requests per second.
        sojourns_s: Mean duration of a stay in each of the two states, in seconds.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        rates_per_s: tuple[float, float],
        sojourns_s: tuple[float, float],
    ) -> None:
        unit_rng, self._rng = rng.spawn(2)
        self._unit = UnitArrivals(unit_rng)
        # Begin in the stationary distribution: with no warm-up the mean rate holds at once.
        first = int(self._rng.random() * sum(sojourns_s) >= sojourns_s[0])
        order = [first, 1 - first]
        self._rates_per_s = np.tile(np.array(rates_per_s)[order], _SOJOURNS // 2)
        self._sojourns_s = np.tile(np.array(sojourns_s)[order], _SOJOURNS // 2)
        # Corners of the integrated rate: the requests expected by each change of state.
        self._time_s = np.zeros(1)
        self._expected = np.zeros(1)

    def next_block(self) -> NDArray[np.float64]:
        """Returns the next arrival times in seconds."""
        targets = self._unit.next_block()
        while self._expected[-1] < targets[-1]:
            self._extend()
        times: NDArray[np.float64] = np.interp(targets, self._expected, self._time_s)
        passed = int(np.searchsorted(self._expected, targets[-1])) - 1
        self._time_s, self._expected = self._time_s[passed:], self._expected[passed:]
        return times

    def _extend(self) -> None:
        sojourns_s = self._sojourns_s * self._rng.standard_exponential(_SOJOURNS)
        time_s = self._time_s[-1] + np.cumsum(sojourns_s)
        expected = self._expected[-1] + np.cumsum(sojourns_s * self._rates_per_s)
        self._time_s = np.concatenate((self._time_s, time_s))
        self._expected = np.concatenate((self._expected, expected))


@dataclass(kw_only=True)
class Bursty(SyntheticWorkload):
    """Markov-modulated Poisson arrivals with a quiet and a burst state.

    The defaults are the maximum-likelihood fit to the Azure 2023 conversation trace
    (``python -m experiments.fit_workload azure_conv``).

    Attributes:
        burst_ratio: Arrival rate in bursts over that in quiet times.
        burst_fraction: Fraction of the time spent in bursts.
        burst_duration_s: Mean duration of a burst in seconds.
    """

    burst_ratio: Annotated[float, Range(least=1.0, most=1e4)] = 1.517
    burst_fraction: Annotated[float, Range(least=1e-4, most=0.9999)] = 0.372
    burst_duration_s: Hold = 73.0

    @override
    def arrivals(self, rng: np.random.Generator, rate_per_s: float) -> ModulatedArrivals:
        fraction = self.burst_fraction
        quiet_per_s = rate_per_s / (1.0 + fraction * (self.burst_ratio - 1.0))
        quiet_s = self.burst_duration_s * (1.0 - fraction) / fraction
        cycle_s = quiet_s + self.burst_duration_s
        if rate_per_s * cycle_s < FEWEST_REQUESTS:
            shortest = FEWEST_REQUESTS / rate_per_s * fraction
            raise ConfigurationError(
                f"workload.burst_duration_s: must be at least {shortest:.3g} s at "
                f"{rate_per_s:.3g} requests/s, got {self.burst_duration_s:g}; bursts so short "
                "leave a Poisson process: choose workload=poisson_gsm8k"
            )
        return ModulatedArrivals(
            rng,
            rates_per_s=(quiet_per_s, self.burst_ratio * quiet_per_s),
            sojourns_s=(quiet_s, self.burst_duration_s),
        )
