"""The journal of a live run: one line per interval, written as the interval ends.

A live episode cannot be repeated, and its process may be killed at any time: each interval is
on disk before the next one begins. A run that ends by itself leaves ``intervals.parquet``
instead.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import BinaryIO

from envs.safe_files import append_whole, open_for_owner
from experiments.records.interval_table import Row

JOURNAL_FILE = "intervals.jsonl"


class Journal:
    """Appends rows as JSON lines; ``pandas.read_json(file, lines=True)`` reads them.

    Args:
        file: The file; an older one is replaced when the first row comes.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stream: BinaryIO | None = None

    def append(self, row: Row) -> None:
        """Hands a whole row to the operating system, so that it outlives the process."""
        if self._stream is None:
            flags = os.O_WRONLY | os.O_TRUNC
            self._stream = os.fdopen(open_for_owner(self._file, flags), "wb", buffering=0)
        append_whole(self._stream, json.dumps(row).encode() + b"\n")

    def remove(self) -> None:
        """Removes the file, once ``intervals.parquet`` holds the record."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._file.unlink(missing_ok=True)
