"""How numbers are written for people."""

from __future__ import annotations

from collections.abc import Sequence

ABSENT = "–"
"""What stands where a number does not apply."""
FOUR_DIGITS = ".4g"


def format_number(value: float | None, factor: float = 1.0, format: str = FOUR_DIGITS) -> str:
    """Returns a number as text, or a dash for what does not apply.

    Args:
        value: The number, or ``None``.
        factor: What it is multiplied by first, such as 100 for per cent.
        format: Format of numbers below 1,000. Larger ones and whole numbers have no decimals.
    """
    if value is None:
        return ABSENT
    scaled = value * factor
    whole = isinstance(value, int) or abs(scaled) >= 1000
    return f"{scaled:,.0f}" if whole else f"{scaled:{format}}"


def interval_text(interval: Sequence[float], factor: float = 1.0, digits: int = 3) -> str:
    """Returns a number with the ends of its interval."""
    value, low, high = (f"{factor * number:.{digits}f}" for number in interval)
    return f"{value} [{low}, {high}]"
