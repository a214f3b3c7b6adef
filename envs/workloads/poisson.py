"""Poisson arrivals: independent users, a steady mean rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from envs.workloads.synthetic import SyntheticWorkload, UnitArrivals


class PoissonArrivals:
    """Arrivals with independent, exponentially distributed gaps.

    Args:
        rng: Source of the gaps.
        rate_per_s: Arrival rate in requests per second.
    """

    def __init__(self, rng: np.random.Generator, rate_per_s: float) -> None:
        self._unit = UnitArrivals(rng)
        self._mean_gap_s = 1.0 / rate_per_s

    def next_block(self) -> NDArray[np.float64]:
        """Returns the next arrival times in seconds."""
        block = self._unit.next_block()
        block *= self._mean_gap_s
        return block


@dataclass(kw_only=True)
class Poisson(SyntheticWorkload):
    """Poisson arrivals, the workload of the paper (arXiv:2605.21427 §4)."""

    @override
    def arrivals(self, rng: np.random.Generator, rate_per_s: float) -> PoissonArrivals:
        return PoissonArrivals(rng, rate_per_s)
