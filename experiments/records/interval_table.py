"""The record of an episode: one row per control interval, kept as columns, written as Parquet."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from envs.cache import atomic_write_bytes
from envs.knobs import Knobs
from envs.objectives.conditions import Conditions
from envs.telemetry import NUMERIC_FIELDS, Telemetry

if TYPE_CHECKING:
    import pandas

Row = dict[str, float | None]
FloatArray = NDArray[np.float64]
_SMALLEST = 64
"""Rows that a new column has room for."""


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
    """The control intervals of an episode as columns of equal length.

    Values that do not apply (``None``, NaN, infinity) are NaN in memory and null in files. A
    column that appears late has NaN in the rows before it.
    """

    def __init__(self) -> None:
        self._columns: dict[str, FloatArray] = {}  # with room for more rows than there are
        self._length = 0

    @classmethod
    def from_columns(cls, columns: Mapping[str, FloatArray]) -> IntervalTable:
        """Returns a table of columns by name, shape ``(rows,)`` each; they are copied.

        Raises:
            ValueError: The columns differ in length; the message names one.
        """
        table = cls()
        if columns:
            table._length = len(next(iter(columns.values())))
        for name, values in columns.items():
            table.add_column(name, values)
        return table

    @classmethod
    def concatenate(cls, tables: Sequence[IntervalTable]) -> IntervalTable:
        """Returns the rows of several tables, one table after another."""
        names = dict.fromkeys(name for table in tables for name in table.names)
        return cls.from_columns(
            {
                name: np.concatenate(
                    [
                        table[name] if name in table else np.full(len(table), np.nan)
                        for table in tables
                    ]
                )
                for name in names
            }
        )

    def __len__(self) -> int:
        return self._length

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order of appearance."""
        return list(self._columns)

    def __getitem__(self, name: str) -> FloatArray:
        """Returns a column, shape ``(rows,)``.

        Raises:
            KeyError: There is no column of this name.
        """
        return self._columns[name][: self._length]

    def append(self, row: Row) -> None:
        """Adds the next interval's row."""
        place = self._length
        for name in row:
            if name not in self._columns:
                self._columns[name] = np.full(max(_SMALLEST, place), np.nan)
        for name, column in self._columns.items():
            if place == len(column):
                room = np.full(2 * max(_SMALLEST, place), np.nan)
                room[:place] = column
                self._columns[name] = column = room
            value = row.get(name)
            column[place] = value if value is not None and math.isfinite(value) else math.nan
        self._length = place + 1

    def add_column(self, name: str, values: FloatArray) -> None:
        """Adds a column that was computed afterwards, shape ``(rows,)``; it is copied.

        Raises:
            ValueError: It has another number of rows.
        """
        if len(values) != self._length:
            raise ValueError(f"{name}: {len(values)} values for {self._length} rows")
        self._columns[name] = np.where(np.isfinite(values), values, np.nan)

    def total(self, name: str) -> float:
        """Returns the sum of a column, exact but for the last rounding."""
        return math.fsum(self[name].tolist())

    def to_pandas(self) -> pandas.DataFrame:
        """Returns the table as a frame; what does not apply is NaN."""
        import pandas

        return pandas.DataFrame({name: self[name] for name in self.names})

    def write_parquet(self, file: Path, labels: Mapping[str, Sequence[str]] | None = None) -> None:
        """Writes the whole table with one row per interval.

        Args:
            file: Where the table goes.
            labels: Columns of text that stand before the others, by name.
        """
        import pyarrow
        from pyarrow import parquet

        columns = {name: pyarrow.array(list(texts)) for name, texts in (labels or {}).items()}
        for name in self.names:
            columns[name] = pyarrow.array(self[name], from_pandas=True)
        buffer = io.BytesIO()
        parquet.write_table(pyarrow.table(columns), buffer)
        atomic_write_bytes(file, buffer.getvalue())
