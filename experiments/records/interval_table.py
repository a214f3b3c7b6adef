"""The record of an episode: one row an interval, kept in memory and written as Parquet."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.cache import atomic_write_bytes
from envs.knobs import Knobs
from envs.objectives.conditions import Conditions
from envs.telemetry import NUMERIC_FIELDS, Telemetry

Row = dict[str, float | None]


def interval_row(reward: float, info: Mapping[str, Any]) -> Row:
    """Returns one control interval as named numbers in SI units.

    Args:
        reward: What the step returned.
        info: What the step told besides.

    Returns:
        Every numeric field of the telemetry by its name; ``gpu<i>_power_w``; the conditions
        that held; the knobs asked for as ``requested_*``; ``throughput_tok_s`` over the QoS
        window; ``reward``, ``reward_<term>``, ``cost`` and ``violation_*``. What does not
        apply (no budget, no SLO, a free clock) is ``None``.
    """
    telemetry: Telemetry = info["telemetry"]
    conditions: Conditions = info["conditions"]
    knobs: Knobs = info["knobs"]
    row: Row = {name: float(getattr(telemetry, name)) for name in NUMERIC_FIELDS}
    for index, power_w in enumerate(telemetry.gpu_power_w):
        row[f"gpu{index}_power_w"] = float(power_w)
    for name, value in zip(conditions._fields, conditions, strict=True):
        row[name] = _finite(value)
    for name, value in zip(knobs._fields, knobs, strict=True):
        row[f"requested_{name}"] = None if value is None else _finite(value)
    row["throughput_tok_s"] = float(info["throughput_tok_s"])
    row["reward"] = float(reward)
    for name, value in info["rewards"].items():
        row[f"reward_{name}"] = float(value)
    row["cost"] = float(info["cost"])
    row["violation_backlog"] = float(info["violation_backlog"])
    row["violation_plain"] = float(info["violation_plain"])
    return row


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


class IntervalTable:
    """Rows of an episode as columns; missing values are NaN in memory and null in files."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._columns: dict[str, NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, row: Row) -> None:
        """Adds the next interval's row."""
        self._rows.append(row)
        self._columns.clear()

    def add_column(self, name: str, values: NDArray[np.float64]) -> None:
        """Adds a column that was computed afterwards.

        Raises:
            ValueError: It has another number of rows.
        """
        for row, value in zip(self._rows, values.tolist(), strict=True):
            row[name] = _finite(value)
        self._columns.clear()

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order of appearance."""
        return list(dict.fromkeys(name for row in self._rows for name in row))

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        if name not in self._columns:
            self._columns[name] = np.array(
                [math.nan if (value := row.get(name)) is None else value for row in self._rows],
                dtype=np.float64,
            )
        return self._columns[name]

    def total(self, name: str) -> float:
        """Returns the sum of a column, exact but for the last rounding."""
        return math.fsum(self[name].tolist())

    def write_parquet(self, file: Path) -> None:
        """Writes the table whole, one row an interval."""
        import pyarrow
        from pyarrow import parquet

        columns = {
            name: pyarrow.array([row.get(name) for row in self._rows], type=pyarrow.float64())
            for name in self.names
        }
        buffer = io.BytesIO()
        parquet.write_table(pyarrow.table(columns), buffer)
        atomic_write_bytes(file, buffer.getvalue())
