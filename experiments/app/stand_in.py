"""What Hydra has no setting for: something of ours in the place of something of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def standing_in(owner: object, name: str, other: Any) -> Iterator[None]:
    """Puts ``other`` in the place of an attribute, for as long as the context lasts.

    Args:
        owner: Class or module that has the attribute.
        name: Its name; one that is not there is an error, as after an update of Hydra.
        other: What stands there meanwhile.
    """
    before = getattr(owner, name)
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, before)
