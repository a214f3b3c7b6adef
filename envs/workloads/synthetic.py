"""Workloads made of an arrival process and length distributions."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from envs.catalog import build
from envs.errors import ConfigurationError, WorkloadError
from envs.fields import Part, Range
from envs.quantities import Count, Tokens
from envs.workloads.base import PromptTexts, RequestChunk, Workload
from envs.workloads.lengths import TABLE_BITS, TABLE_SIZE, Lengths
from envs.workloads.sessions import Sessions

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
        sessions: Makes turns of conversations of them; ``None``: each request is alone.
    """

    def __init__(
        self,
        arrivals: ArrivalProcess,
        rng: np.random.Generator,
        prompt_table: NDArray[np.int64],
        output_table: NDArray[np.int64],
        sessions: Sessions | None = None,
    ) -> None:
        self._arrivals = arrivals
        self._rng = rng
        self._prompt_table = prompt_table
        self._output_table = output_table
        self._sessions = sessions
        nothing = np.empty(0, np.int64)
        texts = None if sessions is None else np.empty((0, 3), np.int64)
        self._block = RequestChunk(np.empty(0), nothing, nothing, texts)
        self._used = 0
        self._last_s = 0.0

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
        return RequestChunk.joined(parts)

    def _from_block(self, count: int) -> RequestChunk:
        times, prompts, outputs, texts = self._block
        part = slice(self._used, self._used + count)
        chunk = RequestChunk(
            times[part], prompts[part], outputs[part], None if texts is None else texts[part]
        )
        self._used += len(chunk.prompt_tokens)
        return chunk

    def _draw(self) -> None:
        # 32 random bits per request serve both tables: two independent indices of 12 bits each.
        bits = self._rng.integers(0, 2**64, BLOCK // 2, dtype=np.uint64).view(np.uint32)
        prompt = (bits >> TABLE_BITS) & _TABLE_MASK
        output = bits & _TABLE_MASK
        prompts = self._prompt_table[prompt.astype(np.intp)]
        outputs = self._output_table[output.astype(np.intp)]
        texts = None
        if self._sessions is not None:
            texts = np.full((BLOCK, 3), (-1, -1, 0))
            prompts, texts[:, 0] = self._sessions.follow(prompts, outputs)
        self._block = RequestChunk(self._next_times(), prompts, outputs, texts)
        self._used = 0

    def _next_times(self) -> NDArray[np.float64]:
        """Returns the next arrival times.

        Raises:
            WorkloadError: They are not what an arrival process promises, which may be anybody's.
        """
        times_s = self._arrivals.next_block()
        name = type(self._arrivals).__name__
        if np.shape(times_s) != (BLOCK,):
            raise WorkloadError(
                f"workload: {name}.next_block() must return {BLOCK} times, got the shape "
                f"{np.shape(times_s)}"
            )
        if not (np.isfinite(times_s[-1]) and (np.diff(times_s, prepend=self._last_s) >= 0).all()):
            raise WorkloadError(
                f"workload: {name}.next_block() must return ascending times, each block after the "
                "one before; they are not, or are no numbers"
            )
        self._last_s = float(times_s[-1])
        return times_s


@dataclass(kw_only=True)
class SyntheticWorkload(Workload):
    """Base of workloads that need no file: subclasses supply the arrivals.

    Attributes:
        lengths: A :class:`~envs.workloads.lengths.Lengths`, or the name of one in
            ``conf/workload/lengths``.
        reads_file: Whether the class reads a file, for its arrivals.
        turns: Mean turns of a conversation. Above 1 a prompt begins with all that was said
            before in its conversation, prompts and answers; its length is what the turn adds.
        sessions: Conversations under way at a time; each request continues one of them.
        max_history_tokens: Tokens said before, above which a conversation ends.
    """

    reads_file: ClassVar[bool] = False
    lengths: Annotated[Any, Part("workload/lengths")] = "gsm8k"
    turns: Annotated[float, Range(least=1.0, most=1e4)] = 1.0
    sessions: Count = 100
    max_history_tokens: Tokens = 8192

    def __post_init__(self) -> None:
        """Checks the values and builds the lengths.

        Raises:
            ConfigurationError: A value is out of range, or a path is given.
        """
        super().__post_init__()
        if self.path is not None and not self.reads_file:
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
        arrivals_rng, lengths_rng, sessions_rng = rng.spawn(3)
        arrivals = self.arrivals(arrivals_rng, rate_per_s)
        return BlockStream(
            arrivals, lengths_rng, self._prompt_table, self._output_table,
            self._conversations(sessions_rng) if self.turns > 1.0 else None,
        )  # fmt: skip

    def _conversations(self, rng: np.random.Generator) -> Sessions:
        return Sessions(
            rng, under_way=self.sessions, turns=self.turns,
            most_tokens=self.max_history_tokens, shared_tokens=self.prompt_texts.shared_tokens,
        )  # fmt: skip

    @property
    @override
    def prompt_texts(self) -> PromptTexts:
        shared = self.lengths.prompt.shared
        return PromptTexts(int(min(shared * self.prompt_scale, self._prompt_table.min())))

    @cached_property
    def mean_prompt_tokens(self) -> float:
        """Mean prompt length in tokens, with what was said before."""
        if self.turns <= 1.0:
            return float(self._prompt_table.mean())
        rng = np.random.default_rng(0)
        drawn = [rng.choice(table, 2**16) for table in (self._prompt_table, self._output_table)]
        return float(self._conversations(rng).follow(*drawn)[0].mean())

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
