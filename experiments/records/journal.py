"""The journal of a live run: a line an interval, written as it passes.

A live episode cannot be repeated, and whoever kills a process asks no one: what has passed is
on disk before the next interval begins. A run that ends by itself leaves ``intervals.parquet``
instead.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

from experiments.records.interval_table import Row

JOURNAL_FILE = "intervals.jsonl"


class Journal:
    """Appends rows as JSON lines; ``pandas.read_json(file, lines=True)`` reads them.

    Args:
        file: Where to; what is there is replaced when the first row comes.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stream: BinaryIO | None = None

    def append(self, row: Row) -> None:
        """Hands a row to the operating system, whole: it outlives the process."""
        if self._stream is None:
            self._stream = self._file.open("wb", buffering=0)
        self._stream.write(json.dumps(row).encode() + b"\n")

    def remove(self) -> None:
        """Takes it away: the record is elsewhere by now."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._file.unlink(missing_ok=True)
