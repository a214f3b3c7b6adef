"""A request from the three values that a file states of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envs.errors import WorkloadError
from envs.workloads.columns import Columns
from envs.workloads.recording import TraceRow
from envs.workloads.values import seconds, tokens


def request_row(
    place: str, line: int, stated: Sequence[Any], columns: Columns, unit: str | None
) -> TraceRow:
    """Returns a request.

    Args:
        place: File and line, for messages.
        line: The line.
        stated: What stands under time, prompt and output.
        columns: What these are called in the file.
        unit: What times that are numbers count; ``None`` for what the columns imply.

    Raises:
        WorkloadError: A value makes no sense; the message names the place and the column.
    """
    at = columns.time
    try:
        time_s = seconds(stated[0], unit or columns.unit, stated=unit is not None)
        at = columns.prompt
        prompt = tokens(stated[1])
        at = columns.output
        return TraceRow(line, time_s, prompt, tokens(stated[2]))
    except (ValueError, OverflowError) as error:
        raise WorkloadError(f"{place}: {at} {error}") from error
