"""Text beside its head, in as many columns as there are."""

from __future__ import annotations

import textwrap


def wrapped(head: str, text: str, width: int) -> list[str]:
    """Returns the lines of a text that stands beside its head, or below it in a narrow terminal."""
    beside = len(head) <= width // 2
    inset = " " * (len(head) if beside else 6)
    if beside:
        return textwrap.wrap(text, width, initial_indent=head, subsequent_indent=inset) or [head]
    return [
        head.rstrip(),
        *textwrap.wrap(text, width, initial_indent=inset, subsequent_indent=inset),
    ]


def plain(text: str | None) -> str:
    """Returns a docstring as a terminal shows it: without the marks around code."""
    return (text or "").replace("``", "")
