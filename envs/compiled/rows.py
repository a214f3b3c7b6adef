"""Memory of many servers, one row each, that Python and compiled code both work on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.compiled.records import WORD

_LINE = 64
"""Bytes of a cache line."""


class Rows:
    """Rows that begin with a record, and behind it sections whose sizes are known at run time.

    Each section begins at a cache line, at the same distance from its row's beginning in all
    rows (:meth:`offset_of`). Nothing in a row needs to say where the row lies, so a row may be
    copied to the place of another. Copies and unpickled objects have rows of their own, so
    addresses must be taken again from them.

    Args:
        count: Number of rows.
        record: How the record lies in memory.
        **sections: For each section the dtype of an entry, and the section's shape, as
            ``(dtype, *shape)``.

    Attributes:
        addresses: Address of each row, shape ``(count,)``.
    """

    addresses: NDArray[np.int64]

    def __init__(self, count: int, record: np.dtype[Any], **sections: tuple[Any, ...]) -> None:
        self.count = count
        self._record = record
        self._sections = {
            name: (np.dtype(kind), *shape) for name, (kind, *shape) in sections.items()
        }
        self._offsets = {}
        end = _lines(record.itemsize)
        for name, (dtype, *shape) in self._sections.items():
            self._offsets[name] = end
            end += _lines(math.prod(shape) * dtype.itemsize)
        # An odd number of cache lines spreads the rows over all sets of the caches.
        self._row_bytes = (end // _LINE | 1) * _LINE
        self._place()

    def __getstate__(self) -> dict[str, Any]:
        """Returns the content, without the place it lies at."""
        state = {name: value for name, value in self.__dict__.items() if name != "addresses"}
        return state | {"_memory": self._memory.tobytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Places the content in memory of its own."""
        content = state.pop("_memory")
        self.__dict__.update(state)
        self._place()
        self._memory[:] = np.frombuffer(content, dtype=np.uint8)

    def _place(self) -> None:
        size = self.count * self._row_bytes
        memory = np.zeros(size + _LINE, dtype=np.uint8)
        begin = -memory.ctypes.data % _LINE
        self._memory = memory[begin : begin + size]
        self.addresses = self._memory.ctypes.data + self._row_bytes * np.arange(self.count)

    @property
    def records(self) -> Any:
        """The records of all rows: a record array of shape ``(count,)``."""
        return self._seen(self._record, 0, ()).view(np.recarray)

    def floats(self, field: str) -> NDArray[np.float64]:
        """Returns a field that holds floats only, of all rows, shape ``(count, floats)``."""
        assert self._record.fields is not None
        dtype, offset = self._record.fields[field][:2]
        return self._seen(np.dtype(np.float64), offset, (dtype.itemsize // WORD,))

    def section(self, name: str) -> NDArray[Any]:
        """Returns a section of all rows, shape ``(count, *shape)``."""
        dtype, *shape = self._sections[name]
        return self._seen(dtype, self._offsets[name], tuple(shape))

    def row(self, index: int) -> NDArray[np.uint8]:
        """Returns the bytes of a row, from its record to the end of its last section."""
        begin = index * self._row_bytes
        return self._memory[begin : begin + self._row_bytes]

    def offset_of(self, name: str) -> int:
        """Returns how many bytes behind its row's beginning a section lies."""
        return self._offsets[name]

    def _seen(self, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...]) -> NDArray[Any]:
        strides = [dtype.itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        return np.ndarray(
            (self.count, *shape),
            dtype=dtype,
            buffer=self._memory,
            offset=offset,
            strides=(self._row_bytes, *strides),
        )


def _lines(size: int) -> int:
    """Returns the bytes of the cache lines that so many bytes take."""
    return -(-size // _LINE) * _LINE


def addresses_of_rows(table: NDArray[Any]) -> NDArray[np.int64]:
    """Returns the address of each row of a contiguous array."""
    return table.ctypes.data + table.strides[0] * np.arange(len(table))
