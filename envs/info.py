"""``info`` that is made when it is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from typing_extensions import override


class Info(dict[str, Any]):
    """A dictionary whose content is made at the first look; most training loops never look.

    What is written into it beforehand, as wrappers do, counts more than what is made. Copies and
    pickles are plain dictionaries.

    Args:
        make: Returns the content. It is called at most once, and whatever it reads must by then
            be as it is now.
        known: Entries of it that are there from the beginning; one is needed, since the encoder
            of ``json`` asks a dictionary no further that seems empty to it.
    """

    __slots__ = ("_make",)
    _make: Callable[[], dict[str, Any]] | None

    def __init__(self, make: Callable[[], dict[str, Any]], known: dict[str, Any]) -> None:
        super().__init__(known)
        self._make = make

    def _whole(self) -> dict[str, Any]:
        """Makes what is not made yet."""
        if self._make is not None:
            make, self._make = self._make, None
            written = dict(self)
            dict.clear(self)  # so that entries have the order of the content
            dict.update(self, make())
            dict.update(self, written)
        return self

    def __missing__(self, key: str) -> Any:
        """Returns a value that was not written: the first look makes all of them."""
        if self._make is None:
            raise KeyError(key)
        self._whole()
        return self[key]

    @override
    def __iter__(self) -> Iterator[str]:
        self._whole()
        return dict.__iter__(self)

    @override
    def __reversed__(self) -> Iterator[str]:
        self._whole()
        return dict.__reversed__(self)

    @override
    def __len__(self) -> int:
        self._whole()
        return dict.__len__(self)

    @override
    def __contains__(self, key: object) -> bool:
        return dict.__contains__(self, key) or dict.__contains__(self._whole(), key)

    @override
    def __eq__(self, other: object) -> bool:
        self._whole()
        if isinstance(other, type(self)):
            other._whole()
        return dict.__eq__(self, other)

    @override
    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    @override
    def __repr__(self) -> str:
        self._whole()
        return dict.__repr__(self)

    @override
    def __or__(self, other: Any) -> Any:
        return dict(self) | other

    @override
    def __ror__(self, other: Any) -> Any:
        return other | dict(self)

    @override
    def __delitem__(self, key: str) -> None:
        self._whole()
        dict.__delitem__(self, key)

    @override
    def get(self, key: str, default: Any = None) -> Any:
        return dict.get(self._whole(), key, default)

    @override
    def keys(self) -> Any:
        return dict.keys(self._whole())

    @override
    def values(self) -> Any:
        return dict.values(self._whole())

    @override
    def items(self) -> Any:
        return dict.items(self._whole())

    @override
    def copy(self) -> dict[str, Any]:
        return dict(self.items())

    @override
    def pop(self, key: str, *default: Any) -> Any:
        return dict.pop(self._whole(), key, *default)

    @override
    def popitem(self) -> tuple[str, Any]:
        return dict.popitem(self._whole())

    @override
    def setdefault(self, key: str, default: Any = None) -> Any:
        return dict.setdefault(self._whole(), key, default)

    @override
    def clear(self) -> None:
        self._make = None
        dict.clear(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Returns a plain dictionary for copies and pickles."""
        return dict, (self.copy(),)
