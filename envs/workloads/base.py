"""The contract of a workload: a seeded stream of requests, taken in chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from envs.errors import ConfigurationError
from envs.fields import Checked, Range
from envs.quantities import Factor, RatePerSecond


class RequestChunk(NamedTuple):
    """Consecutive requests of a stream.

    Attributes:
        arrival_time_s: Arrival times in seconds since the start, ascending, shape ``(n,)``.
            In a closed loop they are ignored.
        prompt_tokens: Prompt lengths, at least 1, shape ``(n,)``.
        output_tokens: Output lengths, at least 1, shape ``(n,)``.
        texts: What prefix caching knows requests by, shape ``(n, 3)``: the number of a text,
            below 2**38, that the request shares with others of its session (negative: with
            nobody); where the ids of its prompt's parts begin in :class:`PromptTexts` (negative:
            nowhere); what is added to these ids. ``None`` where no request shares any.
    """

    arrival_time_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    texts: NDArray[np.int64] | None = None

    @classmethod
    def joined(cls, parts: Sequence[RequestChunk]) -> RequestChunk:
        """Returns the requests of several chunks of one stream in one."""
        times, prompts, outputs, texts = zip(*parts, strict=True)
        return cls(
            np.concatenate(times),
            np.concatenate(prompts),
            np.concatenate(outputs),
            None if texts[0] is None else np.concatenate(texts),
        )


class PromptTexts(NamedTuple):
    """What the prompts of a workload have in common.

    Attributes:
        shared_tokens: Tokens with which every prompt begins.
        ids: Ids of the parts of recorded prompts, in one list; two prompts with the same id in
            the same place are the same up to the end of this part.
        part_tokens: Tokens of a part.
    """

    shared_tokens: int = 0
    ids: NDArray[np.int64] = np.empty(0, np.int64)
    part_tokens: float = 512.0


NO_TEXTS = PromptTexts()
"""Prompts that have nothing in common."""


class RequestStream(Protocol):
    """An endless or finite sequence of requests."""

    def take(self, count: int) -> RequestChunk:
        """Returns the next ``count`` requests, or fewer when the stream ends.

        Taking the same stream in chunks of any size gives the same requests. The arrays
        may be views of the stream's buffers: read them, do not write to them.
        """


@dataclass(kw_only=True)
class Workload(Checked, ABC):
    """Arrivals and request lengths of a serving system.

    Attributes:
        load: Arrival rate as a fraction of the Baseline strategy's saturated rate for this
            model and GPU. Ignored when ``rate`` is given.
        rate: Arrival rate in requests per second, or ``None`` to derive it from ``load``.
            A trace with neither keeps its own arrival times.
        path: File of a trace; ``None`` for workloads that need none.
        prompt_scale: Factor on every prompt length: a shift in what users send.
        output_scale: Factor on every output length.
    """

    config_key: ClassVar[str] = "workload"

    load: Annotated[float, Range(above=0.0, most=100.0)] | None = 0.7
    rate: RatePerSecond | None = None
    path: str | None = None
    prompt_scale: Factor = 1.0
    output_scale: Factor = 1.0

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

    @property
    def prompt_texts(self) -> PromptTexts:
        """What its prompts have in common, which prefix caching makes use of."""
        return NO_TEXTS

    @property
    def own_rate_per_s(self) -> float | None:
        """Rate that the workload itself has, as a trace does; ``None`` if it has none."""
        return None

    @property
    def needs_capacity(self) -> bool:
        """Whether the arrival rate depends on the server's capacity (only ``load`` is set)."""
        return self.rate is None and self.load is not None

    def endless(self) -> Workload:
        """Returns this workload with a stream that never ends, for measuring capacity."""
        return self

    @abstractmethod
    def stream(self, rng: np.random.Generator, rate_per_s: float) -> RequestStream:
        """Starts the sequence of requests of one episode.

        Args:
            rng: Source of every random draw; generators are spawned from it.
            rate_per_s: Mean arrival rate in requests per second.
        """

    def rate_per_s(self, capacity_requests_per_s: float) -> float:
        """Returns the mean arrival rate in requests per second.

        ``rate`` counts before ``load``, and a workload with neither keeps its own rate.

        Args:
            capacity_requests_per_s: Baseline's saturated request rate on this server; used
                only where :attr:`needs_capacity` holds.

        Raises:
            ConfigurationError: Neither ``rate`` nor ``load`` is set, and the workload has no
                rate of its own.
        """
        if self.rate is not None:
            return self.rate
        if self.load is not None:
            return self.load * capacity_requests_per_s
        own = self.own_rate_per_s
        if own is None:
            raise ConfigurationError("workload.load: set it, or workload.rate; both are null")
        return own
