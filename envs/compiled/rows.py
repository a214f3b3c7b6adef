"""Memory of many servers, one row each, that Python and compiled code both work on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORD = 8
_LINE = 64
"""Bytes of a cache line."""


class Rows:
    """Rows of words of 8 bytes, in named sections that each begin at a cache line.

    Compiled code is given the address of a row; copies and unpickled objects have rows of
    their own, so addresses must be taken again from them.

    Args:
        count: Number of rows.
        **sections: Type (``float`` or ``int``) and shape of each section, as ``(type, *shape)``.

    Attributes:
        addresses: Address of each row, shape ``(count,)``.
    """

    addresses: NDArray[np.int64]

    def __init__(self, count: int, **sections: tuple[Any, ...]) -> None:
        self.count = count
        self._sections = sections
        self._offsets = {}
        end = 0
        for name, (_, *shape) in sections.items():
            self._offsets[name] = end
            end += -(-math.prod(shape) * _WORD // _LINE) * _LINE
        # An odd number of cache lines spreads the rows over all sets of the caches.
        self._row_bytes = (end // _LINE | 1) * _LINE
        self._place()

    def __getstate__(self) -> dict[str, Any]:
        """Returns the content, without the place it lies at."""
        return {
            "count": self.count, "_sections": self._sections, "_offsets": self._offsets,
            "_row_bytes": self._row_bytes, "content": self._memory.tobytes(),
        }  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Places the content in memory of its own."""
        content = state.pop("content")
        self.__dict__.update(state)
        self._place()
        self._memory[:] = np.frombuffer(content, dtype=np.uint8)

    def _place(self) -> None:
        size = self.count * self._row_bytes
        memory = np.zeros(size + _LINE, dtype=np.uint8)
        begin = -memory.ctypes.data % _LINE
        self._memory = memory[begin : begin + size]
        self.addresses = self._memory.ctypes.data + self._row_bytes * np.arange(self.count)

    def view(self, name: str) -> NDArray[Any]:
        """Returns a section of all rows, shape ``(count, *shape)``."""
        kind, *shape = self._sections[name]
        strides = [_WORD * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        return np.ndarray(
            (self.count, *shape),
            dtype=np.float64 if kind is float else np.int64,
            buffer=self._memory,
            offset=self._offsets[name],
            strides=(self._row_bytes, *strides),
        )

    def addresses_of(self, name: str) -> NDArray[np.int64]:
        """Returns the address of a section in each row, shape ``(count,)``."""
        return self.addresses + self._offsets[name]


def addresses_of_rows(table: NDArray[Any]) -> NDArray[np.int64]:
    """Returns the address of each row of a contiguous array."""
    return table.ctypes.data + table.strides[0] * np.arange(len(table))
