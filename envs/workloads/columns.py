"""What the columns of traces are called, and what their times count."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

UNIT_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Seconds of a unit of time."""


class Columns(NamedTuple):
    """The names of the three columns that are read.

    Attributes:
        time: Time of arrival.
        prompt: Prompt length.
        output: Output length.
        unit: What the time counts where it is a number.
    """

    time: str
    prompt: str
    output: str
    unit: str = "s"


KNOWN = (
    Columns("TIMESTAMP", "ContextTokens", "GeneratedTokens"),  # Azure 2023 and 2024
    Columns("timestamp", "input_length", "output_length", "ms"),  # Mooncake, AIPerf
    Columns("timestamp", "input_tokens", "output_tokens", "ms"),
    Columns("Timestamp", "Request tokens", "Response tokens"),  # BurstGPT
    Columns("arrival_timestamp", "prompt_size", "token_size"),  # splitwise-sim
    Columns("arrived_at", "num_prefill_tokens", "num_decode_tokens"),  # Vidur
    Columns("arrival_time", "prompt_tokens", "output_tokens"),
    Columns("timestamp", "prompt_tokens", "completion_tokens"),
    Columns("arrival_time_s", "prompt_tokens", "output_tokens"),
)
"""The names that tools give them; upper and lower case and spaces around do not matter."""


def found(names: Collection[str], preferred: Columns) -> Columns | None:
    """Returns the columns that a file has, under the file's own names.

    Args:
        names: What the file calls its columns.
        preferred: Names to look for first.

    Returns:
        The columns; ``None`` if no known three are there.
    """
    own = {name.strip().lower(): name for name in names}
    for known in (preferred, *KNOWN):
        wanted = [name.lower() for name in known[:3]]
        if all(name in own for name in wanted):
            time, prompt, output = (own[name] for name in wanted)
            return Columns(time, prompt, output, known.unit)
    return None


def twice(names: Collection[str], columns: Columns) -> str:
    """Returns a column that is read and stands there twice; empty if none does.

    Args:
        names: What the file calls its columns, or a request its values.
        columns: The three that are read, under the file's own names.
    """
    own = [name.strip().lower() for name in names]
    return next((name for name in columns[:3] if own.count(name.strip().lower()) > 1), "")


def missing(names: Collection[str], preferred: Columns) -> list[str]:
    """Returns which of the preferred columns a file lacks, for messages.

    Args:
        names: What the file calls its columns.
        preferred: The columns that were looked for first.
    """
    own = {name.strip().lower() for name in names}
    return [name for name in preferred[:3] if name.lower() not in own]
