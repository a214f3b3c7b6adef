"""The record of a service: one line per interval, one file per day."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from envs.safe_files import append_whole, open_for_owner
from experiments.records.interval_table import Row


class DailyRecords:
    """Appends rows to ``intervals-YYYY-MM-DD.jsonl`` (UTC); ``pandas.read_json(lines=True)``.

    A line is handed to the operating system whole before the next interval begins, so that it
    outlives the process. What is there from before is kept, also on the same day.

    Args:
        folder: Where to.
        now: Time in seconds since 1970, for the names and the column ``unix_s``.
    """

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._now = now
        self._day = ""
        self._stream: BinaryIO | None = None

    def append(self, row: Row) -> None:
        """Writes one row.

        Raises:
            OSError: The disk is full, or the folder is gone.
        """
        now = self._now()
        day = time.strftime("%Y-%m-%d", time.gmtime(now))
        if day != self._day or self._stream is None or _is_gone(self._stream):
            self.close()
            self._folder.mkdir(parents=True, exist_ok=True)
            file = self._folder / f"intervals-{day}.jsonl"
            flags = os.O_WRONLY | os.O_APPEND
            self._stream = os.fdopen(open_for_owner(file, flags), "ab", buffering=0)
            self._day = day
        append_whole(self._stream, json.dumps({"unix_s": now, **row}).encode() + b"\n")

    def close(self) -> None:
        """Closes the file of the day."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _is_gone(stream: BinaryIO) -> bool:
    """Whether a file was taken away while it is open: what is written to it then is lost."""
    return os.fstat(stream.fileno()).st_nlink == 0
