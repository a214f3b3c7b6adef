"""The word that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_ALIKE = 0.6
"""Ratio of :mod:`difflib` from which two words are alike."""


def nearest(word: str, options: Iterable[str]) -> str | None:
    """Returns the option that is most like a word, or ``None`` where none is like it."""
    found = get_close_matches(word.casefold(), list(options), n=1, cutoff=_ALIKE)
    return found[0] if found else None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Returns the end of a message about a misspelt word: a question, or nothing."""
    meant = nearest(word, options)
    return f"; did you mean {meant!r}?" if meant else ""
