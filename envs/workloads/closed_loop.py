"""A closed loop: a fixed number of requests in flight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.errors import ConfigurationError
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
    concurrency: int = 64

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: The concurrency is not at least 1, or a rate is given.
        """
        super().__post_init__()
        if self.concurrency < 1:
            raise ConfigurationError(
                f"workload.concurrency: must be at least 1, got {self.concurrency}"
            )
        for key in ("load", "rate"):
            if getattr(self, key) is not None:
                raise ConfigurationError(
                    f"workload.{key}: a closed loop has no arrival rate; "
                    "set workload.concurrency instead"
                )

    @property
    def own_rate_per_s(self) -> float:
        """Zero: nothing arrives by itself."""
        return 0.0

    def arrivals(self, rng: np.random.Generator, rate_per_s: float) -> NoArrivals:
        """Starts the episode; both arguments are ignored."""
        return NoArrivals()
