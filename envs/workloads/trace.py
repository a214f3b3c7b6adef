"""Replay of recorded requests: a time window of a trace, with rates and lengths rescaled."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from envs.errors import ConfigurationError, WorkloadError
from envs.fields import OneOf, Range
from envs.workloads.base import RequestChunk, Workload
from envs.workloads.columns import UNIT_S
from envs.workloads.kept_requests import pieces, release
from envs.workloads.public_file import PublicFile
from envs.workloads.recording import Recording, TraceRow, read_recording, require_file, spread

_INSTANT_S = 1e-9
"""Requests that are nearer than this on average arrive at one instant."""


class TraceStream:
    """Replays a recording; only the requested chunks are copied.

    Args:
        recording: Requests, with times between 0 and ``period_s``.
        period_s: Time after which the recording begins again.
        time_factor: Seconds of the stream per second of the recording.
        offset_s: Time of the recording at which the stream begins.
        repeat: Whether the stream goes on for ever; otherwise every request comes once.
        scales: Factors on prompt and output lengths.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        period_s: float,
        time_factor: float,
        offset_s: float,
        repeat: bool,
        scales: tuple[float, float],
    ) -> None:
        self._recording = recording
        self._period_s = period_s
        self._time_factor = time_factor
        self._offset_s = offset_s
        self._first = int(np.searchsorted(recording.time_s, offset_s))
        self._remaining = None if repeat else len(recording.time_s)
        self._taken = 0
        self._scales = scales
        ids = recording.text_ids
        self._num_ids = int(ids.max()) + 1 if len(ids) else 0

    def take(self, count: int) -> RequestChunk:
        """Returns the next ``count`` requests, or fewer when the trace ends."""
        if self._remaining is not None:
            count = min(count, self._remaining)
            self._remaining -= count
        begin = self._first + self._taken
        self._taken += count
        rounds, index = np.divmod(np.arange(begin, begin + count), len(self._recording.time_s))
        time_s = self._recording.time_s[index] + rounds * self._period_s - self._offset_s
        prompt_scale, output_scale = self._scales
        chunk = RequestChunk(
            time_s * self._time_factor,
            _scaled(self._recording.prompt_tokens[index], prompt_scale),
            _scaled(self._recording.output_tokens[index], output_scale),
            self._texts(index, rounds),
        )
        release(self._recording.prompt_tokens)
        return chunk

    def _texts(
        self, index: NDArray[np.int64], rounds: NDArray[np.int64]
    ) -> NDArray[np.int64] | None:
        """Returns what requests are known by; a round of the window shares nothing with another."""
        if not self._num_ids:
            return None
        texts = np.full((len(index), 3), -1)
        texts[:, 1] = self._recording.first_id[index]
        texts[:, 2] = rounds * self._num_ids
        return texts


@dataclass(kw_only=True)
class Trace(Workload):
    """Base of workloads that replay a file: subclasses read its rows.

    With ``load`` and ``rate`` both null (the default) requests arrive when they were
    recorded; a rate or a load stretches or compresses time. The window is in the
    recording's own time.

    Attributes:
        start_s: Beginning of the window, seconds after the first request.
        end_s: End of the window; ``None`` for the end of the trace, which lies one mean gap
            after its last request.
        repeat: Whether the window starts again when it ends.
        random_start: Whether an episode begins at a random time of the window (and wraps around
            once), so that seeds differ.
        spread_ties: Whether requests recorded at the same instant are spread evenly until the
            next instant, for recordings with a coarse clock.
        time_unit: What times that are numbers count: ``s``, ``ms``, ``us`` or ``ns``; ``None``
            for what the names of the columns imply (Mooncake's keys milliseconds, others
            seconds). A unit that is given is not doubted.
        skip_failed: Whether requests without a prompt or an answer are left out, as failed ones
            are recorded by some (BurstGPT); otherwise such a row is refused.
        reads_units: Whether the class's ``rows`` takes a unit.
        public_file: Where the public file comes from; ``None`` if there is none.
    """

    load: float | None = None
    start_s: Annotated[float, Range(least=0.0, most=1e9)] = 0.0
    end_s: Annotated[float, Range(above=0.0, most=1e9)] | None = None
    repeat: bool = False
    random_start: bool = False
    spread_ties: bool = False
    time_unit: Annotated[str, OneOf(*UNIT_S)] | None = None
    skip_failed: bool = False
    reads_units: ClassVar[bool] = False
    public_file: ClassVar[PublicFile | None] = None

    def __post_init__(self) -> None:
        """Checks the window; the file is read when it is first needed.

        Raises:
            ConfigurationError: A value is out of range.
            WorkloadError: A path is given, and there is no such file.
        """
        super().__post_init__()
        after = self.end_s is None or self.end_s > self.start_s
        self.require(after, "end_s", f"be later than workload.start_s ({self.start_s})")
        known = self.time_unit is None or self.reads_units
        self.require(known, "time_unit", f"be null: {type(self).__name__} reads no units")
        if self.path is not None:
            require_file(Path(self.path))

    @classmethod
    @abstractmethod
    def rows(cls, path: Path) -> Iterator[TraceRow]:
        """Reads the requests of a file in the file's order.

        Raises:
            WorkloadError: A row is malformed or a column is missing.
        """

    @classmethod
    def read(cls, path: Path, unit: str | None = None, *, skip_failed: bool = False) -> Recording:
        """Reads and checks a file; a process reads a file once and shares it.

        Args:
            path: The file.
            unit: See :attr:`time_unit`.
            skip_failed: See :attr:`skip_failed`.

        Raises:
            WorkloadError: The file cannot be read, is empty or malformed, or its time runs
                backwards; the message names file and line.
        """
        return read_recording(cls.rows, path, unit, skip_failed=skip_failed)

    @property
    def mean_prompt_tokens(self) -> float:
        """Mean prompt length in the window, in tokens."""
        return _mean(self._window.prompt_tokens, self.prompt_scale)

    @property
    def mean_output_tokens(self) -> float:
        """Mean output length in the window, in tokens."""
        return _mean(self._window.output_tokens, self.output_scale)

    @property
    def own_rate_per_s(self) -> float:
        """Requests of the window over its duration, in requests per second."""
        return len(self._window.time_s) / self._duration_s

    def endless(self) -> Trace:
        """Returns this workload with its window repeated for ever."""
        return replace(self, repeat=True)

    @override
    def stream(self, rng: np.random.Generator, rate_per_s: float) -> TraceStream:
        """Starts the replay; without ``random_start`` nothing is random."""
        return TraceStream(
            self._window,
            period_s=self._duration_s,
            time_factor=self.own_rate_per_s / rate_per_s,
            offset_s=rng.uniform(0.0, self._duration_s) if self.random_start else 0.0,
            repeat=self.repeat,
            scales=(self.prompt_scale, self.output_scale),
        )

    @cached_property
    def file(self) -> Path:
        """The file that is replayed: ``path``, or where the public file lies.

        Raises:
            WorkloadError: No path is given, and the public file is not there.
        """
        if self.path is not None:
            return Path(self.path)
        if self.public_file is None:
            raise ConfigurationError("workload.path: no file given")
        return self.public_file.find()

    @cached_property
    def _window(self) -> Recording:
        """The requests of the window, with times counted from its beginning."""
        times, prompts, outputs, first_id, text_ids = self.read(
            self.file, self.time_unit, skip_failed=self.skip_failed
        )
        if self.spread_ties:
            times = spread(times)
        end_s = float("inf") if self.end_s is None else self.end_s
        first, last = np.searchsorted(times, (self.start_s, end_s))
        if first == last:
            raise WorkloadError(
                f"{self.file}: no request between workload.start_s={self.start_s} and "
                f"workload.end_s={self.end_s}; the trace lasts {times[-1]:.0f} s"
            )
        part = slice(first, last)
        times = times[part] - self.start_s if self.start_s else times[part]
        return Recording(times, prompts[part], outputs[part], first_id[part], text_ids)

    @cached_property
    def _duration_s(self) -> float:
        if self.end_s is not None:
            return self.end_s - self.start_s
        times = self._window.time_s
        if times[-1] - times[0] < _INSTANT_S * len(times):
            raise WorkloadError(
                f"{self.file}: all requests of the window arrive at one instant, so it has no "
                "rate; set workload.end_s"
            )
        return float(times[-1] + (times[-1] - times[0]) / (len(times) - 1))


def _mean(tokens: NDArray[np.int64], scale: float) -> float:
    return sum(int(_scaled(piece, scale).sum()) for piece in pieces(tokens)) / len(tokens)


def _scaled(tokens: NDArray[np.int64], scale: float) -> NDArray[np.int64]:
    if scale == 1.0:
        return tokens
    scaled: NDArray[np.int64] = np.maximum(np.rint(tokens * scale), 1.0).astype(np.int64)
    return scaled
