"""What a training logs: Stable-Baselines3's logger into a CSV file and a tracker."""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger
from typing_extensions import override

from envs.cache import atomic_write_text
from envs.errors import ConfigurationError
from envs.safe_files import read_regular
from experiments.records.tracking import TrackedRun

_LOG = logging.getLogger(__name__)
PROGRESS_FILE = "progress.csv"
_MOST_BYTES = 1 << 30
_STEPS = "time/total_timesteps"


class TrackerFormat(KVWriter):
    """Hands what is logged to a tracker.

    Args:
        tracked: The training in the tracker.
    """

    def __init__(self, tracked: TrackedRun) -> None:
        self._tracked = tracked

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Takes the values logged since the last call; what is no finite number is left out."""
        self._tracked.interval(
            step,
            {
                key: float(value)
                for key, value in key_values.items()
                if not isinstance(value, str) and math.isfinite(float(value))
            },
        )

    @override
    def close(self) -> None:
        """Does nothing: the caller that opened the tracker closes it."""


class ProgressFile(KVWriter):
    """Writes a table as a CSV file that is whole after every line, whenever the process ends.

    A new column has the table written again beside the old file, which it then replaces.

    Args:
        file: The file.
        rows: Lines to begin with, by column.
    """

    def __init__(self, file: Path, rows: Sequence[Mapping[str, str]] = ()) -> None:
        self._file = file
        self._rows = [dict(row) for row in rows]
        self._columns = list(dict.fromkeys(name for row in self._rows for name in row))
        self._write_all(self._columns)

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Adds a line of the values logged since the last call."""
        row = {key: str(value) for key, value in key_values.items()}
        self._rows.append(row)
        new = sorted(row.keys() - set(self._columns))
        if new:
            columns = self._columns + new
            self._write_all(columns)
            self._columns = columns
        else:
            with self._file.open("ab", buffering=0) as stream:
                stream.write(_text(self._columns, [row]).encode())

    @override
    def close(self) -> None:
        """Does nothing: no file is open between two lines."""

    def _write_all(self, columns: Sequence[str]) -> None:
        header = dict(zip(columns, columns, strict=True))
        atomic_write_text(self._file, _text(columns, [header, *self._rows]) if columns else "")


def _text(columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, restval="", lineterminator="\n").writerows(rows)
    return text.getvalue()


def earlier_rows(file: Path, steps: int) -> list[dict[str, str]]:
    """Returns the lines of an earlier ``progress.csv`` up to a number of decisions.

    It is a log, no more: where it is damaged the training goes on, and a line says so.
    """
    try:
        text = read_regular(file, _MOST_BYTES).decode()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        return [row for row in rows if float(row[_STEPS]) <= steps]
    except (ConfigurationError, csv.Error, ValueError, KeyError, TypeError) as error:
        reason = str(error) if isinstance(error, ConfigurationError) else f"{file}: {error!r}"
        _LOG.warning("resume: %s; the log of what was trained before is lost", reason)
        return []


def training_logger(
    directory: Path, tracked: TrackedRun, earlier: Path | None = None, steps: int = 0
) -> Logger:
    """Returns a logger that writes ``progress.csv`` and tells a tracker.

    Args:
        directory: Folder of the file.
        tracked: The training in the tracker.
        earlier: Folder of the training that is resumed, whose lines come first.
        steps: Decisions of its checkpoint; later lines are made again.
    """
    rows = [] if earlier is None else earlier_rows(earlier / PROGRESS_FILE, steps)
    formats: list[KVWriter] = [ProgressFile(directory / PROGRESS_FILE, rows)]
    return Logger(str(directory), [*formats, TrackerFormat(tracked)])
