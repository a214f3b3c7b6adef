"""Workloads made of an arrival process and length distributions."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from envs.catalog import build
from envs.errors import ConfigurationError
from envs.fields import Part
from envs.workloads.base import RequestChunk, Workload
from envs.workloads.lengths import TABLE_BITS, TABLE_SIZE, Lengths

BLOCK = 4096
_TABLE_MASK = np.uint32(TABLE_SIZE - 1)


class ArrivalProcess(Protocol):
    """An endless sequence of arrival times."""

    def next_block(self) -> NDArray[np.float64]:
        """Returns the next ``BLOCK`` arrival times in seconds, ascending."""


class UnitArrivals:
    """A Poisson process of rate 1: the clock that other processes stretch.

    A process whose rate varies arrives where its integrated rate reaches these values
    (time rescaling), which is exact.

    Args:
        rng: Source of the gaps.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._last = 0.0

    def next_block(self) -> NDArray[np.float64]:
        """Returns the next ``BLOCK`` arrival times, without a unit."""
        block = self._rng.standard_exponential(BLOCK)
        block[0] += self._last
        np.cumsum(block, out=block)
        self._last = float(block[-1])
        return block


class BlockStream:
    """Requests drawn in blocks of one size, so that chunks of any size give the same ones.

    Args:
        arrivals: Arrival process.
        rng: Source of the lengths.
        prompt_table: Equally likely prompt lengths, shape ``(TABLE_SIZE,)``.
        output_table: Equally likely output lengths, shape ``(TABLE_SIZE,)``.
    """

    def __init__(
        self,
        arrivals: ArrivalProcess,
        rng: np.random.Generator,
        prompt_table: NDArray[np.int64],
        output_table: NDArray[np.int64],
    ) -> None:
        self._arrivals = arrivals
        self._rng = rng
        self._prompt_table = prompt_table
        self._output_table = output_table
        nothing = np.empty(0, np.int64)
        self._block = RequestChunk(np.empty(0), nothing, nothing)
        self._used = 0

    def take(self, count: int) -> RequestChunk:
        """Returns the next ``count`` requests."""
        chunk = self._from_block(count)
        parts = [chunk]
        missing = count - len(chunk.prompt_tokens)
        while missing:
            self._draw()
            parts.append(self._from_block(missing))
            missing -= len(parts[-1].prompt_tokens)
        if len(parts) == 1:
            return chunk
        if len(parts) == 2 and not len(chunk.prompt_tokens):
            return parts[1]
        return RequestChunk(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _from_block(self, count: int) -> RequestChunk:
        times, prompts, outputs = self._block
        part = slice(self._used, self._used + count)
        chunk = RequestChunk(times[part], prompts[part], outputs[part])
        self._used += len(chunk.prompt_tokens)
        return chunk

    def _draw(self) -> None:
        # 32 random bits per request serve both tables: two independent indices of 12 bits each.
        bits = self._rng.integers(0, 2**64, BLOCK // 2, dtype=np.uint64).view(np.uint32)
        prompt = (bits >> TABLE_BITS) & _TABLE_MASK
        output = bits & _TABLE_MASK
        self._block = RequestChunk(
            self._arrivals.next_block(),
            self._prompt_table[prompt.astype(np.intp)],
            self._output_table[output.astype(np.intp)],
        )
        self._used = 0


@dataclass(kw_only=True)
class SyntheticWorkload(Workload):
    """Base of workloads that need no file: subclasses supply the arrivals.

    Attributes:
        lengths: A :class:`~envs.workloads.lengths.Lengths`, or the name of one in
            ``conf/workload/lengths``.
    """

    lengths: Annotated[Any, Part("workload/lengths")] = "gsm8k"

    def __post_init__(self) -> None:
        """Checks the values and builds the lengths.

        Raises:
            ConfigurationError: A value is out of range, or a path is given.
        """
        super().__post_init__()
        if self.path is not None:
            raise ConfigurationError(
                f"workload.path: {type(self).__name__} reads no file; leave it null or choose "
                "a trace, such as workload=azure_conv"
            )
        self.lengths = build("workload/lengths", self.lengths)
        if not isinstance(self.lengths, Lengths):
            raise ConfigurationError(f"workload.lengths: not lengths, but {self.lengths!r}")

    @abstractmethod
    def arrivals(self, rng: np.random.Generator, rate_per_s: float) -> ArrivalProcess:
        """Starts the arrivals of one episode.

        Args:
            rng: Source of every random draw of the arrivals.
            rate_per_s: Mean arrival rate in requests per second.
        """

    @override
    def stream(self, rng: np.random.Generator, rate_per_s: float) -> BlockStream:
        arrivals_rng, lengths_rng = rng.spawn(2)
        arrivals = self.arrivals(arrivals_rng, rate_per_s)
        return BlockStream(arrivals, lengths_rng, self._prompt_table, self._output_table)

    @property
    def mean_prompt_tokens(self) -> float:
        """Mean prompt length in tokens."""
        return float(self._prompt_table.mean())

    @property
    def mean_output_tokens(self) -> float:
        """Mean output length in tokens."""
        return float(self._output_table.mean())

    @cached_property
    def _prompt_table(self) -> NDArray[np.int64]:
        table: NDArray[np.int64] = self.lengths.prompt.table(self.prompt_scale)
        return table

    @cached_property
    def _output_table(self) -> NDArray[np.int64]:
        table: NDArray[np.int64] = self.lengths.output.table(self.output_scale)
        return table
