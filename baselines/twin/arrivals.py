"""What is believed about arrivals: the rate now, its trend, and whether a burst has begun."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from baselines.twin.plans import FloatArray

_FAST_S, _SLOW_S = 4.0, 30.0
"""Memories of the two estimates: a burst shows in the one, a steady rate in the other."""
_PRIOR_S = 5.0
"""Time for which the expected rate counts as observed."""
_JUMP = 3.0
"""Standard deviations between the two from which on the slow one is wrong."""


@dataclass
class _Discounted:
    """A rate with exponential forgetting: the posterior of a Poisson process is a gamma."""

    memory_s: float
    count: float
    time_s: float

    def note(self, arrivals: float, seconds: float) -> None:
        fade = math.exp(-seconds / self.memory_s)
        self.count = self.count * fade + arrivals
        self.time_s = self.time_s * fade + seconds

    @property
    def per_s(self) -> float:
        return self.count / self.time_s


class ArrivalBelief:
    """The arrival rate of one server.

    Two estimates with different memories; when they contradict each other by more than chance,
    the rate has changed and the slow one begins again where the fast one is.

    Args:
        expected_per_s: Rate that is expected before the first request.
    """

    def __init__(self, expected_per_s: float) -> None:
        prior = max(expected_per_s, 1e-3) * _PRIOR_S
        self._fast = _Discounted(_FAST_S, prior, _PRIOR_S)
        self._slow = _Discounted(_SLOW_S, prior, _PRIOR_S)

    def note(self, arrivals: float, seconds: float) -> None:
        """Learns how many requests came in some seconds."""
        self._fast.note(arrivals, seconds)
        self._slow.note(arrivals, seconds)
        if abs(self._surprise) > _JUMP:
            self._slow.count, self._slow.time_s = self._fast.count, self._fast.time_s

    @property
    def _surprise(self) -> float:
        """How far the estimates are apart, in standard deviations."""
        fast, slow = self._fast, self._slow
        variance = max(slow.per_s, 1e-3) / fast.time_s
        return (fast.per_s - slow.per_s) / math.sqrt(variance)

    def draw(self, samples: int, times_s: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Returns arrival rates ahead, shape ``(samples, len(times_s))``.

        The more the estimates differ, the more samples believe in a burst (or its end) and the
        more of the difference goes on as a trend.

        Args:
            samples: Number of samples.
            times_s: Times from now.
            rng: Source of the draws.
        """
        fast, slow = self._fast, self._slow
        squared = self._surprise**2
        belief = squared / (1.0 + squared)
        burst = rng.random(samples) < belief
        count = np.where(burst, fast.count, slow.count)
        time_s = np.where(burst, fast.time_s, slow.time_s)
        rates = rng.gamma(count + 0.5) / time_s
        slope = 0.5 * belief * (fast.per_s - slow.per_s) / (_SLOW_S - _FAST_S)
        return np.maximum(rates[:, None] + slope * times_s, 0.0)
