"""Reads a CSV file row by row and checks its numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from envs.errors import WorkloadError


class RowError(Exception):
    """A row that cannot be used; the message is the reason."""


def read_rows(file: Path, required: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields ``(line number, row)`` for every row of a CSV file that is not blank.

    Args:
        file: The file.
        required: Columns that must be there.

    Raises:
        WorkloadError: The file cannot be read or lacks a column; the message names it.
    """
    try:
        table = pd.read_csv(file, skip_blank_lines=False, dtype=object)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise WorkloadError(f"{file}: cannot read it as CSV: {error}") from error
    missing = [name for name in required if name not in table.columns]
    if missing:
        raise WorkloadError(f"{file}:1: no column {', '.join(missing)}")
    for index, row in enumerate(table.to_dict("records")):
        values = {str(key): _value(value) for key, value in row.items()}
        if any(value is not None for value in values.values()):
            yield index + 2, values


def _value(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    text = str(value).strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def number(row: dict[str, Any], column: str, *, above: float = 0.0) -> float:
    """Returns a number that must be there.

    Raises:
        RowError: It is missing, not a number, not finite or not above ``above``.
    """
    value = optional_number(row, column)
    if value is None or not value > above:
        raise RowError(f"{column} is {row.get(column)!r}, not a number above {above:g}")
    return value


def optional_number(row: dict[str, Any], column: str) -> float | None:
    """Returns a number, or ``None`` where the cell or the column is empty."""
    value = row.get(column)
    if value is None:
        return None
    if not isinstance(value, float) or not math.isfinite(value):
        raise RowError(f"{column} is {value!r}, not a number")
    return value


def count(row: dict[str, Any], column: str) -> int:
    """Returns a whole number of at least 1; an empty cell counts as 1."""
    value = optional_number(row, column)
    if value is None:
        return 1
    if value < 1.0 or value != int(value):
        raise RowError(f"{column} is {value:g}, not a whole number of at least 1")
    return int(value)
