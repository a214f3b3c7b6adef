"""Requests from the three values that a file states of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from envs.errors import WorkloadError
from envs.workloads.columns import Columns
from envs.workloads.recording import TraceRow
from envs.workloads.values import Times, tokens


class RequestRows:
    """Makes the requests of one file.

    Args:
        path: The file, for messages.
        columns: What time, prompt and output are called in the file.
        unit: What times that are numbers count; ``None`` for what the columns imply.
    """

    def __init__(self, path: Path, columns: Columns, unit: str | None) -> None:
        self.columns = columns
        self._path = path
        self._times = Times(unit or columns.unit, stated=unit is not None)

    def row(self, line: int, stated: Sequence[Any]) -> TraceRow:
        """Returns a request.

        Args:
            line: Its line.
            stated: What stands under time, prompt and output.

        Raises:
            WorkloadError: A value makes no sense; the message names the place and the column.
        """
        at = self.columns.time
        try:
            time_s = self._times.seconds(stated[0])
            at = self.columns.prompt
            prompt = tokens(stated[1])
            at = self.columns.output
            return TraceRow(line, time_s, prompt, tokens(stated[2]))
        except (ValueError, OverflowError) as error:
            raise WorkloadError(f"{self._path}:{line}: {at} {error}") from error
