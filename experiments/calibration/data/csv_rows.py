"""Reads a CSV file row by row with numbers checked, and finds models by their identifiers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from envs import catalog
from envs.errors import WorkloadError
from envs.simulator.gpus import GPUSpec
from envs.simulator.models import ModelSpec


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


@cache
def _models_by_id() -> dict[str, ModelSpec]:
    found: dict[str, ModelSpec] = {}
    for name in catalog.names("model"):
        if OmegaConf.missing_keys(catalog.load("model", name)):
            continue  # a choice that asks for a file, not a model of its own
        spec: ModelSpec = catalog.build("model", name)
        for identifier in [name, *spec.huggingface_ids]:
            found[identifier.lower()] = spec
            found.setdefault(identifier.lower().rpartition("/")[2], spec)
    return found


def find_model(identifier: Any) -> ModelSpec:
    """Returns the specification of a model by its identifier or catalogue name.

    Raises:
        RowError: There is no such specification.
    """
    text = str(identifier or "").lower()
    spec = _models_by_id().get(text) or _models_by_id().get(text.rpartition("/")[2])
    if spec is None:
        raise RowError("no specification of this model (conf/model)")
    return spec


@cache
def find_gpu(name: str) -> GPUSpec:
    """Returns the GPU type of a catalogue name."""
    spec: GPUSpec = catalog.build("gpu", name)
    return spec
