"""Reads the requests of a JSON file: one object a line, or a list of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from envs.errors import WorkloadError
from envs.strict_json import decoder as json_decoder
from envs.strict_json import read_json
from envs.workloads.columns import Columns, found, missing, twice
from envs.workloads.recording import TraceRow
from envs.workloads.request_row import RequestRows
from envs.workloads.text_file import lines

MOST_CHARACTERS = 2_000_000_000
"""Size of the largest file whose objects are not one a line."""
_SPACE = re.compile(r"[\s,]*")


def json_rows(path: Path, text: TextIO, preferred: Columns, unit: str | None) -> Iterator[TraceRow]:
    """Yields the requests of a JSON file.

    Args:
        path: The file, for messages.
        text: The open file.
        preferred: Keys to look for first.
        unit: What times that are numbers count; ``None`` for what the keys imply.

    Raises:
        WorkloadError: A key is missing or a value makes no sense; the message names line and key.
    """
    requests: RequestRows | None = None
    for line, record in _records(path, text, preferred):
        columns = _record_columns(path, line, record, preferred)
        if requests is None:
            requests = RequestRows(path, columns, unit)
        elif columns != requests.columns:
            raise WorkloadError(
                f"{path}:{line}: its keys are {', '.join(columns[:3])}, those of the requests "
                f"before {', '.join(requests.columns[:3])}"
            )
        row = requests.row(line, [record[name] for name in columns[:3]])
        try:
            yield row._replace(text_ids=_ids(record.get("hash_ids", [])))
        except ValueError as error:
            raise WorkloadError(f"{path}:{line}: hash_ids {error}") from error


def _records(path: Path, text: TextIO, preferred: Columns) -> Iterator[tuple[int, Any]]:
    """Yields the objects and their lines."""
    source = lines(path, text)
    begun: list[str] = []
    for number, line in enumerate(source, start=1):
        if not line.strip():
            begun.append(line)
            continue
        value = _line_value(line)
        if isinstance(value, dict) and not _lists(value, preferred):
            yield number, value
            begun.clear()
            yield from _line_by_line(path, source, number)
        else:
            yield from _spread(path, "".join([*begun, line, *source]), preferred)
        return


def _line_value(line: str) -> Any:
    """Returns the value that a line holds by itself, or ``None``."""
    try:
        return read_json(line)
    except (ValueError, RecursionError):
        return None


def _lists(value: Any, preferred: Columns) -> list[list[Any]]:
    """Returns the lists of requests that an object holds; none if it is a request itself."""
    if not isinstance(value, dict) or _columns(value, preferred) is not None:
        return []
    lists = [
        item
        for item in value.values()
        if isinstance(item, list) and item and isinstance(item[0], dict)
    ]
    known = [item for item in lists if _columns(item[0], preferred) is not None]
    return known or ([] if _is_conversation(value) else lists)


def _columns(record: dict[str, Any], preferred: Columns) -> Columns | None:
    return found([key for key in record if isinstance(key, str)], preferred)


def _line_by_line(path: Path, source: Iterator[str], passed: int) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(source, start=passed + 1):
        if line.strip():
            try:
                yield number, read_json(line)
            except (ValueError, RecursionError) as error:
                raise WorkloadError(f"{path}:{number}: not JSON: {error}") from error


def _spread(path: Path, text: str, preferred: Columns) -> Iterator[tuple[int, Any]]:
    """Yields the objects of a list, or of a file of objects on several lines each."""
    if len(text) > MOST_CHARACTERS:
        raise WorkloadError(f"{path}: is too large to be read unless each request has a line")
    start = len(text) - len(text.lstrip())
    if text.startswith("[", start):
        yield from _items(path, text, start + 1)
        return
    decoder = json_decoder()
    try:
        value, end = decoder.raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        raise WorkloadError(_not_json(path, text, start, error)) from error
    if lists := _lists(value, preferred):
        if text[end:].strip():
            raise WorkloadError(
                f"{path}:{_line_of(text, end)}: more follows the object that holds the requests; "
                "write one list of all requests, or a line for each"
            )
        if len(lists) > 1 and _columns(lists[0][0], preferred) is not None:
            raise WorkloadError(
                f"{path}:{_line_of(text, start)}: the object holds {len(lists)} lists of requests; "
                "write one list of all requests, or a line for each"
            )
        yield from ((_line_of(text, start), record) for record in max(lists, key=len))
        return
    yield _line_of(text, start), value
    yield from _items(path, text, end)


def _items(path: Path, text: str, position: int) -> Iterator[tuple[int, Any]]:
    """Yields objects that commas or spaces part, up to the end of their list or of the text."""
    decoder = json_decoder()
    line, counted = _line_of(text, position), position
    while True:
        position = _SPACE.match(text, position).end()  # type: ignore[union-attr]  # matches always
        line += text.count("\n", counted, position)
        counted = position
        if position >= len(text):
            if text.lstrip().startswith("["):
                raise WorkloadError(f"{path}:{line}: not JSON: the list has no end")
            return
        if text.startswith("]", position):
            if rest := text[position + 1 :].lstrip():
                line = _line_of(text, len(text) - len(rest))
                raise WorkloadError(
                    f"{path}:{line}: more follows the list of requests; write one list of all "
                    "requests, or a line for each"
                )
            return
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise WorkloadError(_not_json(path, text, position, error)) from error
        yield line, value


def _not_json(path: Path, text: str, position: int, error: Exception) -> str:
    place = error.pos if isinstance(error, json.JSONDecodeError) else position
    return f"{path}:{_line_of(text, min(place, len(text)))}: not JSON: {error}"


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _record_columns(path: Path, line: int, record: Any, preferred: Columns) -> Columns:
    """Returns what a request calls its time and lengths.

    Raises:
        WorkloadError: It is no object, or has no such keys.
    """
    if not isinstance(record, dict):
        raise WorkloadError(f"{path}:{line}: not a JSON object")
    columns = _columns(record, preferred)
    if columns is None:
        raise WorkloadError(f"{path}:{line}: {_lacking(record, preferred)}")
    if name := twice([key for key in record if isinstance(key, str)], columns):
        raise WorkloadError(f"{path}:{line}: two keys are called {name}")
    return columns


def _ids(value: Any) -> list[int]:
    if isinstance(value, list) and all(type(item) is int and item >= 0 for item in value):
        return value
    raise ValueError(f"must be a list of whole numbers from 0 on, got {str(value)[:80]}")


def _is_conversation(record: dict[str, Any]) -> bool:
    return "conversations" in record or "messages" in record


def _lacking(record: dict[str, Any], preferred: Columns) -> str:
    keys = ", ".join(map(str, record))[:300]
    if _is_conversation(record):
        return (
            f"holds conversations ({keys}), without times of arrival or token counts; draw "
            "arrivals and lengths with workload=poisson_gsm8k and workload/lengths=..."
        )
    if "delay" in record:
        return (
            f"gives a delay within a session ({keys}), not a time of arrival; write a timestamp "
            "for each request"
        )
    return f"no key {', '.join(missing(record, preferred))}; there are {keys}"
