"""Reads the values of a trace: times and token counts, as numbers or as text."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any

from envs.workloads.columns import UNIT_S

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
EPOCH_S = (5e8, 5e9)
"""Seconds since 1970 between 1985 and 2128: a number in here that counts something else, or far
above it that is said to count seconds, is most likely in another unit."""


def seconds(value: Any, unit: str, *, stated: bool) -> float:
    """Returns a time in seconds.

    A number counts units; text that is no number is a date.

    Args:
        value: A number, or a number or date as text.
        unit: What a number counts.
        stated: Whether the user said so; otherwise a number that looks like a time since 1970 in
            another unit is refused.

    Raises:
        ValueError: It is neither, or looks like another unit; the message says what was found.
    """
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            return _date(text)
        value = float(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, got {_shown(value)}")
    if not math.isfinite(value):
        raise ValueError(f"must be finite, got {_shown(value)}")
    if not stated:
        _refuse_other_unit(float(value), unit)
    return float(value) * UNIT_S[unit]


def _refuse_other_unit(value: float, unit: str) -> None:
    low, high = EPOCH_S
    for other, each in UNIT_S.items():
        since = value * each
        if other != unit and low < since < high and not low < value * UNIT_S[unit] < high:
            if unit == "ms" and other == "us":
                continue  # years of milliseconds from any origin are as likely
            raise ValueError(
                f"is {value:.15g}, which is {_year(since)} in {other} since 1970; it would be "
                f"read as {unit}: set workload.time_unit to {other}, or to {unit} if it is right"
            )


def _year(since: float) -> str:
    return f"the year {datetime.fromtimestamp(since, UTC).year}"


def _date(text: str) -> float:
    if not text:
        raise ValueError("is empty")
    stamp = re.sub(r"\s*(UTC|GMT)$", "+00:00", text)
    try:
        time = datetime.fromisoformat(stamp)
    except ValueError:
        raise ValueError(
            f"is {_shown(text)}, neither a number nor a time such as 2023-11-16 18:17:03.97"
        ) from None
    aware = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    return aware.timestamp()


def tokens(value: Any) -> int:
    """Returns a token count: a whole number, which may be written as ``1627.0`` or as text.

    Raises:
        ValueError: It is something else.
    """
    number = value
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            raise ValueError(f"must be a whole number, got {_shown(value)}")
        number = int(text) if text.isdecimal() else float(text)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError(f"must be a whole number, got {_shown(value)}")
    if isinstance(number, float) and not number.is_integer():
        raise ValueError(f"must be a whole number, got {_shown(value)}")
    return int(number)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
