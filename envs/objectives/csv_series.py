"""Reads a series of numbers over time from a CSV file."""

from __future__ import annotations

import csv
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envs.errors import WorkloadError
from envs.user_paths import user_path

FloatArray = NDArray[np.float64]


def read_series(
    path: str | Path, time_column: str, value_column: str, *, skip_gaps: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Returns times and values of a CSV file's rows.

    Args:
        path: The file.
        time_column: Column of times, ascending: seconds, or ISO 8601 timestamps, which
            are counted in seconds from the first one (without a time zone: UTC).
        value_column: Column of values.
        skip_gaps: Skips rows without a value instead of refusing the file.

    Returns:
        Times in seconds and values, shape ``(rows,)`` each.

    Raises:
        WorkloadError: The file cannot be read; the message names file and line.
    """
    file = user_path(path, "signal.path")
    if not file.is_file():
        raise WorkloadError(f"signal.path: no file {path}")
    try:
        return _read(file, time_column, value_column, skip_gaps=skip_gaps)
    except csv.Error as error:
        raise WorkloadError(f"{file}: {error}") from error


def _read(
    file: Path, time_column: str, value_column: str, *, skip_gaps: bool
) -> tuple[FloatArray, FloatArray]:
    times: list[float] = []
    values: list[float] = []
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as handle:
        reader = csv.DictReader(handle)
        header = list(reader.fieldnames or [])
        missing = {time_column, value_column} - set(header)
        if missing:
            raise WorkloadError(f"{file}:1: no column {', '.join(sorted(missing))}")
        for name in (time_column, value_column):
            if header.count(name) > 1:
                raise WorkloadError(f"{file}:1: two columns are called {name}")
        origin = 0.0
        dates = False
        for row in reader:
            where = f"{file}:{reader.line_num}"
            if skip_gaps and not (row[value_column] or "").strip():
                continue
            if any(cell.strip() for cell in row.get(None) or []):  # type: ignore[call-overload]
                raise WorkloadError(f"{where}: more values than the header has columns")
            time, dated = _time(row[time_column], time_column, where)
            if not times:
                dates, origin = dated, time if dated else 0.0
            if dated != dates:
                kinds = ("a number", "a date")
                raise WorkloadError(
                    f"{where}: {time_column} is {kinds[dated]}, where the times before are each "
                    f"{kinds[dates]}"
                )
            time -= origin
            if times and time < times[-1]:
                raise WorkloadError(f"{where}: time runs backwards")
            times.append(time)
            values.append(_number(row[value_column], value_column, where))
    if not times:
        raise WorkloadError(f"{file}: no rows")
    return np.asarray(times), np.asarray(values)


def _time(text: str | None, column: str, where: str) -> tuple[float, bool]:
    """Returns a time in seconds, and whether it is one since 1970 (a timestamp)."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return _number(text, column, where), False
    if text is not None and _is_number(text):  # "20220101" is a number of seconds
        return float(text), False
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), True


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str | None, column: str, where: str) -> float:
    """Returns the number in a column of a row; ``where`` is its file and line."""
    try:
        number = float(text or "")
    except ValueError:
        raise WorkloadError(f"{where}: {column} is not a number: {text!r}") from None
    if not math.isfinite(number):
        raise WorkloadError(f"{where}: {column} is not a finite number: {text!r}")
    return number
