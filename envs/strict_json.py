"""JSON of files, ours and other people's: an object in which a key stands twice is refused."""

from __future__ import annotations

import json
from typing import Any


def read_json(text: str | bytes, *, finite: bool = False) -> Any:
    """Returns the value that a text of JSON holds.

    Args:
        text: The text.
        finite: Whether NaN and infinities, which Python writes and JSON does not know, are refused.

    Raises:
        ValueError: It is no JSON, or an object has a key twice; the message names it.
    """
    refuse = _refuse_constant if finite else None
    return json.loads(text, object_pairs_hook=_object, parse_constant=refuse)


def decoder() -> json.JSONDecoder:
    """Returns a decoder of several values in one text that refuses the same."""
    return json.JSONDecoder(object_pairs_hook=_object)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object; keep one of them")
    return found
