"""Traces in files of rows: what public traces and other tools' exports have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from envs.workloads.columns import KNOWN, Columns
from envs.workloads.csv_trace import csv_rows
from envs.workloads.json_trace import json_rows
from envs.workloads.recording import TraceRow
from envs.workloads.text_file import open_text
from envs.workloads.trace import Trace


@dataclass(kw_only=True)
class TabularTrace(Trace):
    """Replay of a file of requests, CSV or JSON, whatever known tool wrote it.

    Attributes:
        columns: Names of the columns that are looked for first.
    """

    columns: ClassVar[Columns] = KNOWN[0]
    reads_units: ClassVar[bool] = True

    @classmethod
    @override
    def rows(cls, path: Path, unit: str | None = None) -> Iterator[TraceRow]:
        """Reads the requests of a file; what it begins with tells whether it is JSON.

        Args:
            path: The file.
            unit: What times that are numbers count; ``None`` for what the columns' names imply.
        """
        with open_text(path) as text:
            begins = _first_character(text.read(4096))
            text.seek(0)
            if begins and begins in "{[":
                yield from json_rows(path, text, cls.columns, unit)
                return
            public = cls.public_file  # Azure's ends without a line end
            whole = public is not None and path.stat().st_size == public.size_bytes
            yield from csv_rows(path, text, cls.columns, unit, whole=whole)


def _first_character(text: str) -> str:
    return text.lstrip("\ufeff \t\r\n")[:1]
