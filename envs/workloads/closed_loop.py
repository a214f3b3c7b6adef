"""A closed loop: a fixed number of requests in flight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from envs.fields import Range
from envs.workloads.synthetic import BLOCK, SyntheticWorkload


class NoArrivals:
    """Zeros in place of arrival times: the server takes requests as others finish."""

    def next_block(self) -> NDArray[np.float64]:
        """Returns zeros."""
        return np.zeros(BLOCK)


@dataclass(kw_only=True)
class ClosedLoop(SyntheticWorkload):
    """Clients that send their next request when the last one is answered.

    Attributes:
        concurrency: Requests kept in flight.
    """

    load: float | None = None
    concurrency: Annotated[int, Range(least=1, most=100_000)] = 64

    def __post_init__(self) -> None:
        """Checks that no rate is given."""
        super().__post_init__()
        for key in ("load", "rate"):
            rule = "be null: a closed loop has no arrival rate; set workload.concurrency instead"
            self.require(getattr(self, key) is None, key, rule)

    @property
    def own_rate_per_s(self) -> float:
        """Zero: nothing arrives by itself."""
        return 0.0

    def arrivals(self, rng: np.random.Generator, rate_per_s: float) -> NoArrivals:
        """Starts the episode; both arguments are ignored."""
        return NoArrivals()
