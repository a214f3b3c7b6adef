"""The loop that all readers share: parse each row, or list it with the reason why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.calibration.data.csv_table import RowError, read_rows
from experiments.calibration.data.measurement import MeasuredData, Measurement, Skipped

ParseRow = Callable[[dict[str, Any]], Measurement]
"""Turns a row into a measurement, or raises :class:`RowError` with the reason."""


def read_table(
    file: Path,
    *,
    dataset: str,
    columns: tuple[str, ...],
    parse_row: ParseRow,
    model_column: str = "",
    model: str = "",
) -> MeasuredData:
    """Reads a CSV file of measurements.

    Args:
        file: The file.
        dataset: Name of the data set, for the list of skipped rows.
        columns: Columns that the file must have.
        parse_row: Parser of one row.
        model_column: Column that names the model, for the list of skipped rows.
        model: Name of the model where no column names it.

    Raises:
        WorkloadError: The file cannot be read or lacks a column; the message names it.
    """
    data = MeasuredData()
    for line, row in read_rows(file, columns):
        try:
            data.measurements.append(parse_row(row))
        except RowError as error:
            name = str(row.get(model_column)) if model_column else model
            data.skipped.append(Skipped(dataset, line, name, str(error)))
    return data
