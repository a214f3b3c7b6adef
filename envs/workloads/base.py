"""The contract of a workload: a seeded stream of requests, taken in chunks."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from envs.errors import ConfigurationError


class RequestChunk(NamedTuple):
    """Consecutive requests of a stream.

    Attributes:
        arrival_time_s: Arrival times in seconds since the start, ascending, shape ``(n,)``.
            In a closed loop they are ignored.
        prompt_tokens: Prompt lengths, at least 1, shape ``(n,)``.
        output_tokens: Output lengths, at least 1, shape ``(n,)``.
    """

    arrival_time_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]


class RequestStream(Protocol):
    """An endless or finite sequence of requests."""

    def take(self, count: int) -> RequestChunk:
        """Returns the next ``count`` requests, or fewer when the stream ends.

        Taking the same stream in chunks of any size gives the same requests.
        """


@dataclass(kw_only=True)
class Workload(ABC):
    """Arrivals and request lengths of a serving system.

    Attributes:
        load: Arrival rate as a share of the Baseline strategy's saturated rate for this
            model and GPU. Ignored when ``rate`` is given.
        rate: Arrival rate in requests per second, or ``None`` to derive it from ``load``.
        path: File of a trace; ``None`` for workloads that need none.
    """

    load: float = 0.7
    rate: float | None = None
    path: str | None = None

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: A rate or load is not positive and finite.
        """
        for key, value in (("workload.load", self.load), ("workload.rate", self.rate)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigurationError(f"{key}: must be a positive number, got {value}")

    @property
    @abstractmethod
    def mean_prompt_tokens(self) -> float:
        """Mean prompt length in tokens."""

    @property
    @abstractmethod
    def mean_output_tokens(self) -> float:
        """Mean output length in tokens."""

    @property
    def concurrency(self) -> int | None:
        """Requests kept in flight by a closed loop; ``None`` for open arrivals."""
        return None

    @abstractmethod
    def stream(self, rng: np.random.Generator, rate_per_s: float) -> RequestStream:
        """Starts the sequence of requests of one episode.

        Args:
            rng: Source of every random draw.
            rate_per_s: Mean arrival rate in requests per second.
        """

    def rate_per_s(self, capacity_requests_per_s: float) -> float:
        """Returns the mean arrival rate in requests per second.

        Args:
            capacity_requests_per_s: Baseline's saturated request rate on this server.
        """
        return self.rate if self.rate is not None else self.load * capacity_requests_per_s
