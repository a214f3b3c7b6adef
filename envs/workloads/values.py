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


_MOST_S = 1e12
"""Over 30,000 years; much further on, seconds have no fractions left in a float."""


class Times:
    """Reads the times of one column, which are written alike.

    A number counts units; text that is no number is a date.

    Args:
        unit: What a number counts.
        stated: Whether the user said so; otherwise a number that looks like a time since 1970 in
            another unit is refused.
    """

    def __init__(self, unit: str, *, stated: bool) -> None:
        self._unit = unit
        self._stated = stated
        self._form = ""

    def seconds(self, value: Any) -> float:
        """Returns a time in seconds.

        Args:
            value: A number, or a number or date as text.

        Raises:
            ValueError: It is neither, looks like another unit, or is written in another way than
                the first one; the message says what was found.
        """
        text = value.strip() if isinstance(value, str) else ""
        if text and not _NUMBER.fullmatch(text):
            time_s, form = _date(text)
        else:
            time_s, form = self._counted(value), "a number"
        if form != self._form:
            if self._form:
                raise ValueError(
                    f"is {_shown(value)}, {form}, where the times before are each {self._form}"
                )
            self._form = form
        return time_s

    def _counted(self, value: Any) -> float:
        if isinstance(value, str):
            if not value.strip():
                raise ValueError("is empty")
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"must be a number, got {_shown(value)}")
        if not math.isfinite(value):
            raise ValueError(f"must be finite, got {_shown(value)}")
        if not self._stated:
            _refuse_other_unit(float(value), self._unit)
        time_s = float(value) * UNIT_S[self._unit]
        if abs(time_s) > _MOST_S:
            raise ValueError(
                f"is {_shown(value)}, which is {time_s:.6g} s where it counts {self._unit}: over "
                "30,000 years; set workload.time_unit to what it counts"
            )
        return time_s


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


def _date(text: str) -> tuple[float, str]:
    """Returns the time of a date, and how it is written."""
    stamp = re.sub(r"\s*(UTC|GMT)$", "+00:00", text)
    try:
        time = datetime.fromisoformat(stamp)
    except ValueError:
        raise ValueError(
            f"is {_shown(text)}, neither a number nor a time such as 2023-11-16 18:17:03.97"
        ) from None
    form = "a date and time" if ":" in stamp or "T" in stamp else "a date without a time"
    if time.tzinfo is not None:
        return time.timestamp(), f"{form} with a zone"
    return time.replace(tzinfo=UTC).timestamp(), form


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
