"""Recorded requests: reading a file of them once, and checking every row."""

from __future__ import annotations

import hashlib
import logging
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.errors import WorkloadError
from envs.workloads.kept_requests import LARGE_BYTES, kept_name, kept_requests
from envs.workloads.part_sizes import PartSizes, parts_of
from envs.workloads.plausibility import doubts

_LOG = logging.getLogger(__name__)
_MAX_TOKENS = 2**31 - 1


class TraceRow(NamedTuple):
    """One recorded request.

    Attributes:
        line: Line of the file, counted from 1.
        time_s: Time of arrival in seconds, from any origin.
        prompt_tokens: Prompt length.
        output_tokens: Output length.
        text_ids: Ids of the parts of its prompt, of
            :data:`~envs.workloads.part_sizes.PART_TOKENS` tokens each.
    """

    line: int
    time_s: float
    prompt_tokens: int
    output_tokens: int
    text_ids: Sequence[int] = ()


class Recording(NamedTuple):
    """Recorded requests in order of arrival, at least one.

    Attributes:
        time_s: Arrival times, ascending, in seconds after the first; shape ``(n,)``.
        prompt_tokens: Prompt lengths, shape ``(n,)``.
        output_tokens: Output lengths, shape ``(n,)``.
        first_id: Where the ids of each prompt's parts begin in ``text_ids``, negative where it
            has none; shape ``(n,)``.
        text_ids: Ids of the parts of prompts, from 0 on, one prompt's after the other's.
    """

    time_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    first_id: NDArray[np.int64]
    text_ids: NDArray[np.int64]


RowReader = Callable[..., Iterator[TraceRow]]
"""Reads the rows of a file: takes its path, and the unit of its times where one is given."""


def require_file(path: Path) -> None:
    """Checks that there is a file.

    Raises:
        WorkloadError: There is none.
    """
    if not path.is_file():
        raise WorkloadError(f"workload.path: no file at {path} (in {os.getcwd()})")


def read_recording(
    rows: RowReader, path: Path, unit: str | None = None, *, skip_failed: bool = False
) -> Recording:
    """Reads and checks a file; a process reads an unchanged file once and shares the arrays.

    Args:
        rows: Reads the rows of a file in the file's order.
        path: The file.
        unit: What times that are numbers count; ``None`` for what the file's format implies.
        skip_failed: Whether requests without a prompt or an answer are left out, not refused.

    Raises:
        WorkloadError: The file cannot be read, is empty or malformed, or its time runs
            backwards; the message names file and line.
    """
    require_file(path)
    status = path.stat()
    return _read_once(rows, path.resolve(), unit, skip_failed, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _read_once(
    rows: RowReader, path: Path, unit: str | None, skip_failed: bool, mtime_ns: int, size: int
) -> Recording:
    checked = partial(_checked, rows, path, unit, skip_failed)
    recording = None
    if size >= LARGE_BYTES:
        recording = _kept(checked, rows, path, (unit, skip_failed))
    if recording is None:
        recording = _in_memory(path, checked())
    for column in recording:
        column.flags.writeable = False  # shared by every episode of the process
    for doubt in doubts(recording.time_s, unit_given=unit is not None):
        _LOG.warning("%s: %s", path, doubt)
    return recording


def _checked(
    rows: RowReader, path: Path, unit: str | None, skip_failed: bool
) -> Iterator[TraceRow]:
    """Yields the requests of a file, at least one.

    Raises:
        WorkloadError: See :func:`read_recording`.
    """
    previous_s = None
    try:
        for row in rows(path) if unit is None else rows(path, unit):
            if skip_failed and 0 in (row.prompt_tokens, row.output_tokens):
                continue
            _check_row(path, row, row.time_s if previous_s is None else previous_s)
            previous_s = row.time_s
            yield row
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path}: cannot be read: {error}") from error
    if previous_s is None:
        raise WorkloadError(f"{path}: holds no requests")


def _in_memory(path: Path, checked: Iterator[TraceRow]) -> Recording:
    """Returns a recording whose requests are held in memory."""
    # Arrays, not lists: a day of requests has millions of rows.
    times, prompts, outputs = array("d"), array("q"), array("q")
    first_ids, ids = array("q"), array("q")
    numbers: dict[int, int] = {}
    sizes = PartSizes()
    for row in checked:
        times.append(row.time_s)
        prompts.append(row.prompt_tokens)
        outputs.append(row.output_tokens)
        first_ids.append(len(ids) if row.text_ids else -1)
        ids.extend(_numbered(row, numbers))
        sizes.add(row.line, row.prompt_tokens, len(row.text_ids))
    if doubt := sizes.doubt():
        _LOG.warning("%s:%d: %s", path, *doubt)
    return Recording(
        np.array(times) - times[0],
        *(np.array(column, np.int64) for column in (prompts, outputs, first_ids, ids)),
    )


def _ends_with_a_line(path: Path) -> bool:
    """Returns whether a file's last line has an end, or cannot be seen, as it is packed."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(-1, os.SEEK_END)
            return packed or file.read(1) in b"\r\n"
    except OSError as error:
        raise WorkloadError(f"{path}: cannot be read: {error}") from error


class _TextsError(Exception):
    """A recording tells which prompts begin alike, whose ids have to be renumbered in memory."""


def _kept(
    checked: Callable[[], Iterator[TraceRow]], rows: RowReader, path: Path, options: tuple[Any, ...]
) -> Recording | None:
    """Returns a recording whose requests lie in the cache folder; ``None`` if they cannot.

    Raises:
        WorkloadError: See :func:`read_recording`.
    """

    def plain() -> Iterator[tuple[float, int, int]]:
        first_s = None
        for row in checked():
            if row.text_ids:
                raise _TextsError
            first_s = row.time_s if first_s is None else first_s
            yield row.time_s - first_s, row.prompt_tokens, row.output_tokens
        if (path.stat().st_mtime_ns, path.stat().st_size) != before:
            raise WorkloadError(f"{path}: was changed while it was read; read it again")

    if not _ends_with_a_line(path):
        return None  # the warning is said each time
    try:
        before = (path.stat().st_mtime_ns, path.stat().st_size)
        name = kept_name(rows, path, options)
        found = None if name is None else kept_requests(name, plain)
    except _TextsError:
        return None
    except OSError as error:
        raise WorkloadError(f"{path}: cannot be read: {error}") from error
    if found is None:
        return None
    no_ids = np.broadcast_to(np.int64(-1), len(found))
    columns = (found["time_s"], found["prompt_tokens"], found["output_tokens"])
    return Recording(*columns, no_ids, np.empty(0, np.int64))


def _numbered(row: TraceRow, numbers: dict[int, int]) -> list[int]:
    """Returns a number from 0 on for each part of a prompt, the same for the same id.

    A recording may have fewer ids than the prompt has parts: the rest is shared with nobody.

    Args:
        row: The request.
        numbers: Numbers by id; a part without an id takes a number too.
    """
    if not row.text_ids:
        return []
    parts = parts_of(row.prompt_tokens)
    found = [numbers.setdefault(item, len(numbers)) for item in row.text_ids[:parts]]
    for part in range(len(found), parts):
        found.append(numbers.setdefault(-1 - row.line * _MAX_TOKENS - part, len(numbers)))
    return found


def _check_row(path: Path, row: TraceRow, previous_s: float) -> None:
    for name, tokens in (("prompt", row.prompt_tokens), ("output", row.output_tokens)):
        if not 1 <= tokens <= _MAX_TOKENS:
            raise WorkloadError(
                f"{path}:{row.line}: {name} length is {tokens} tokens; it must be at least 1 "
                "(a request that failed? workload.skip_failed=true leaves such rows out)"
                if tokens < 1
                else f"{path}:{row.line}: {name} length of {tokens} tokens is impossible"
            )
    if row.time_s < previous_s:
        raise WorkloadError(
            f"{path}:{row.line}: time runs backwards, {previous_s - row.time_s:.6g} s before "
            "the request on the line above; sort the file by time"
        )


def spread(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spreads equal times evenly until the next time; the last ones over the median step.

    Args:
        times: Ascending times, shape ``(n,)``.
    """
    instants, group, size = np.unique(times, return_inverse=True, return_counts=True)
    if len(instants) < 2:
        return times
    steps = np.diff(instants)
    steps = np.append(steps, np.median(steps))
    rank = np.arange(len(times)) - (np.cumsum(size) - size)[group]
    spread_times: NDArray[np.float64] = times + steps[group] * rank / size[group]
    return spread_times


def head_sha256(recording: Recording, count: int) -> str:
    """Returns the SHA-256 of the first requests, one line of milliseconds, prompt, output each.

    Args:
        recording: Requests; times count from the first one.
        count: Number of requests that are hashed.
    """
    rows = zip(*(column[:count].tolist() for column in recording[:3]), strict=True)
    text = "".join(f"{round(time * 1000)},{prompt},{output}\n" for time, prompt, output in rows)
    return hashlib.sha256(text.encode()).hexdigest()
