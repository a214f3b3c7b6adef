"""What every simulator of the comparison is given, and what it gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from envs.workloads.base import RequestChunk


class Server(NamedTuple):
    """A server to simulate.

    Attributes:
        model_id: Model, as its hub names it.
        model: The same, in ``conf/model``.
        gpu: GPU type, in ``conf/gpu``.
        gpus: Tensor-parallel GPUs.
        max_num_seqs: Batch limit.
    """

    model_id: str
    model: str
    gpu: str
    gpus: int
    max_num_seqs: int


class Answer(NamedTuple):
    """What a simulator says, and what it took.

    Attributes:
        finished: Requests that were served.
        longest_s: Time from arrival to the last token of the request that took longest.
        cpu_s: Processor time of the simulation.
        wall_s: Time of it.
    """

    finished: int
    longest_s: float
    cpu_s: float
    wall_s: float


class Peer(ABC):
    """A simulator."""

    name: str

    @abstractmethod
    def missing(self, server: Server) -> str | None:
        """Returns why it cannot simulate a server; ``None`` if it can."""

    @abstractmethod
    def run(self, server: Server, requests: RequestChunk) -> Answer:
        """Simulates a server until the last of some requests is served."""

    def longest_s(self, server: Server, batches: Sequence[RequestChunk]) -> list[float]:
        """Returns the time of each of some batches on a server that has nothing else to do."""
        return [self.run(server, requests).longest_s for requests in batches]


def poisson(count: int, rate_per_s: float) -> RequestChunk:
    """Returns requests like those of GSM8K.

    Those of a conversation, four on average, begin alike; only who is told to cache prefixes
    looks at that.
    """
    rng = np.random.default_rng(0)
    times_s = np.cumsum(rng.exponential(1.0 / rate_per_s, count))
    prompts = np.maximum(1, rng.lognormal(np.log(75.0), 0.5, count).astype(np.int64))
    outputs = np.maximum(2, rng.lognormal(np.log(120.0), 0.45, count).astype(np.int64))
    texts = np.tile(np.array([0, -1, 0]), (count, 1))
    texts[:, 0] = np.arange(count) // 64 * 16 + rng.integers(0, 16, count)
    return RequestChunk(times_s, prompts, outputs, texts)


def batch(size: int, tokens: int) -> RequestChunk:
    """Returns requests that come together, each with so many tokens of prompt and of output."""
    return RequestChunk(np.zeros(size), np.full(size, tokens), np.full(size, tokens))
