"""What a user is told of results that were there before: which were used, which made again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

_MOST_NAMES = 4


class Origin(NamedTuple):
    """Where a result comes from.

    Attributes:
        name: The result's name.
        kept: Whether it was there before and is the very result that is wanted now.
        reasons: Why what was there before is not; empty where there was nothing.
    """

    name: str
    kept: bool
    reasons: tuple[str, ...] = ()


def reuse_lines(origins: Iterable[Origin]) -> list[str]:
    """Returns which results were used again and why, and which of those found were made again."""
    kept: list[str] = []
    again: dict[tuple[str, ...], list[str]] = {}
    for origin in origins:
        if origin.kept:
            kept.append(origin.name)
        elif origin.reasons:
            again.setdefault(origin.reasons, []).append(origin.name)
    lines = []
    if kept:
        lines.append(
            f"{_counted(kept)} taken from before: same configuration, input files, code and "
            f"libraries ({_listed(kept)})"
        )
    lines += [
        f"{_counted(names)} made again: {'; '.join(reasons)} ({_listed(names)})"
        for reasons, names in again.items()
    ]
    return lines


def _counted(names: list[str]) -> str:
    return "1 run" if len(names) == 1 else f"{len(names)} runs"


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return "; ".join(names[:_MOST_NAMES]) + (f"; {more} more" if more > 0 else "")
