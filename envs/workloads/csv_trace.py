"""Reads the requests of a CSV file, as spreadsheets, pandas and other tools write them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from envs.errors import WorkloadError
from envs.workloads.columns import Columns, found, missing, twice
from envs.workloads.recording import TraceRow
from envs.workloads.request_row import RequestRows
from envs.workloads.text_file import lines

_SEPARATORS = ",;\t|"


def csv_rows(
    path: Path, text: TextIO, preferred: Columns, unit: str | None, *, whole: bool = False
) -> Iterator[TraceRow]:
    """Yields the requests of a CSV file.

    The separator is whichever of comma, semicolon, tab and bar the header has most of. Comments
    (``#``) and Excel's ``sep=`` line before the header, empty rows, empty cells at the end of a
    row and a header that is repeated say nothing and are passed over.

    Args:
        path: The file, for messages.
        text: The open file.
        preferred: Names of columns to look for first.
        unit: What times that are numbers count; ``None`` for what the columns' names imply.
        whole: Whether the file is known to be whole, though its last line may have no end.

    Raises:
        WorkloadError: A column is missing or a value makes no sense; the message names line and
            column.
    """
    before, first = _header_line(path, text)
    if not first:
        return
    separator = max(_SEPARATORS, key=first.count)
    try:
        header = [name.strip() for name in next(csv.reader([first], delimiter=separator))]
    except csv.Error as error:
        raise WorkloadError(f"{path}:{before}: {error}") from error
    columns = found(header, preferred)
    if columns is None:
        raise WorkloadError(
            f"{path}:{before}: no column {', '.join(missing(header, preferred))}; there are "
            f"{', '.join(name or '(no name)' for name in header)[:300]}"
        )
    if name := twice(header, columns):
        raise WorkloadError(f"{path}:{before}: two columns are called {name}")
    places = [header.index(name) for name in columns[:3]]
    requests = RequestRows(path, columns, unit)
    reader = csv.reader(lines(path, text, before, ended=not whole), delimiter=separator)
    try:
        for fields in reader:
            line = before + reader.line_num
            while len(fields) > len(header) and not fields[-1].strip():
                fields.pop()
            if not any(cell.strip() for cell in fields):
                continue
            if [cell.strip() for cell in fields] == header:
                continue
            if len(fields) != len(header):
                raise WorkloadError(
                    f"{path}:{line}: {len(fields)} values where the header has "
                    f"{len(header)} columns"
                )
            yield requests.row(line, [fields[place] for place in places])
    except csv.Error as error:
        raise WorkloadError(f"{path}:{before + reader.line_num}: {error}") from error


def _header_line(path: Path, text: TextIO) -> tuple[int, str]:
    """Returns the number of the header's line, and the line."""
    for number, line in enumerate(lines(path, text), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#") and not stripped.lower().startswith("sep="):
            return number, line
    return 0, ""
