"""The word that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_ALIKE = 0.6
"""Ratio of :mod:`difflib` from which two words are alike."""
_BEGUN = 2
"""Letters from which the beginning of a word tells it."""


def nearest(word: str, options: Iterable[str]) -> str | None:
    """Returns the option that is most like a word, or ``None`` where none is like it.

    A word with which one option alone begins (``olmo``, of ``olmoe_1b_7b``) means that one.
    """
    known, given = list(options), word.casefold()
    found = get_close_matches(given, known, n=1, cutoff=_ALIKE)
    if found:
        return found[0]
    begun = [option for option in known if len(given) >= _BEGUN and option.startswith(given)]
    return begun[0] if len(begun) == 1 else None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Returns the end of a message about a misspelt word: a question, or nothing."""
    meant = nearest(word, options)
    return f"; did you mean {meant!r}?" if meant else ""
