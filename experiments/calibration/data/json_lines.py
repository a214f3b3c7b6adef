"""Reads files of JSON objects, one a line, packed or not, and names file and line of an error."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from envs import strict_json
from envs.errors import WorkloadError


def read_json(file: Path) -> dict[str, Any]:
    """Returns the JSON object that a file holds.

    Raises:
        WorkloadError: It cannot be read or is no JSON object.
    """
    try:
        return _object(str(file), file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{file}: cannot be read: {error}") from error


def read_json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields ``(line number, object)`` for every line; a name ending in ``.gz`` is unpacked.

    Raises:
        WorkloadError: The file cannot be read or a line is no JSON object.
    """
    try:
        with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, _object(f"{file}:{number}", line)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{file}: cannot be read: {error}") from error


def _object(place: str, text: str) -> dict[str, Any]:
    try:
        value = strict_json.read_json(text)
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"{place}: cannot read it as JSON: {error}") from error
    if not isinstance(value, dict):
        raise WorkloadError(f"{place}: not a JSON object")
    return value
