"""The memory of simulated servers: one row each, read and written by compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.latency import LATENCY_BUCKETS
from envs.simulator.kernel import layout as at

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_WORD = 8
_LINE = 64
"""Bytes of a cache line."""


class ServerStates:
    """Rows of ``count`` servers of one size.

    Args:
        count: Number of servers.
        slots: Requests that may be admitted at once, per server.
        block_size: Largest number of tokens per KV block.
        latency: Whether latencies are counted over whole episodes.

    Attributes:
        rows: Addresses of the rows, shape ``(count,)``.
        numbers: Floating-point state, shape ``(count, NUM_NUMBERS)``.
        counts: Integer state, shape ``(count, NUM_COUNTS)``.
        totals: Latency counts, shape ``(count, 3, LATENCY_BUCKETS)``, or ``(count, 3, 0)``
            when latencies are not counted.
        telemetry: Telemetry of the last interval, shape ``(count, NUM_TELEMETRY)``.
    """

    rows: IntArray
    numbers: FloatArray
    counts: IntArray
    totals: IntArray

    def __init__(self, count: int, slots: int, block_size: int, *, latency: bool) -> None:
        self.count = count
        self._slots = slots
        self._buckets = LATENCY_BUCKETS if latency else 0
        sections = {
            at.PHASES_AT: block_size,
            at.FINISHING_AT: 2 * slots,
            at.FREE_AT: slots,
            at.PREFILLING_AT: slots,
            at.PREEMPTED_AT: slots,
            at.SLOTS_AT: slots * at.NUM_SLOT_FIELDS,
            at.STAMPS_AT: slots * at.NUM_STAMPS,
            at.SAMPLES_AT: 3 * at.SAMPLES,
            at.TOTALS_AT: 3 * self._buckets,
        }
        self._offsets = {}
        end = (at.NUM_NUMBERS + at.NUM_COUNTS) * _WORD
        for column, words in sections.items():
            self._offsets[column] = end
            end += -(-words * _WORD // _LINE) * _LINE
        # An odd number of cache lines spreads the rows over all sets of the caches.
        self._row_bytes = (end // _LINE | 1) * _LINE
        self.telemetry = np.zeros((count, at.NUM_TELEMETRY))
        self._place(None)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the views, which must share memory with the rows."""
        views = ("rows", "numbers", "counts", "totals", "_free", "_phases")
        return {name: value for name, value in self.__dict__.items() if name not in views}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Places the copy in memory of its own."""
        self.__dict__.update(state)
        self._place(self._memory)

    def reset(self, index: int) -> None:
        """Empties one server; its warm-up and the addresses in its row stay."""
        warmup_s = self.numbers[index, at.WARMUP_S]
        self.numbers[index] = 0.0
        self.numbers[index, at.WARMUP_S] = warmup_s
        self.counts[index, : at.FIRST_ADDRESS] = 0
        self.counts[index, at.CAPACITY] = self.counts[index, at.FREE] = self._slots
        self._free[index] = np.arange(self._slots)[::-1]
        self._phases[index] = 0
        self.totals[index] = 0
        self.telemetry[index] = 0.0

    def _place(self, content: NDArray[np.uint8] | None) -> None:
        """Takes memory that begins at a cache line, and makes the views of it."""
        size = self.count * self._row_bytes
        memory = np.zeros(size + _LINE, dtype=np.uint8)
        begin = -memory.ctypes.data % _LINE
        self._memory = memory[begin : begin + size]
        if content is not None:
            self._memory[:] = content
        self.rows = self._memory.ctypes.data + self._row_bytes * np.arange(self.count)
        self.numbers = self._view(0, np.float64, at.NUM_NUMBERS)
        self.counts = self._view(at.NUM_NUMBERS * _WORD, np.int64, at.NUM_COUNTS)
        self.totals = self._view(self._offsets[at.TOTALS_AT], np.int64, 3, self._buckets)
        self._free = self._view(self._offsets[at.FREE_AT], np.int64, self._slots)
        phases = (self._offsets[at.FINISHING_AT] - self._offsets[at.PHASES_AT]) // _WORD
        self._phases = self._view(self._offsets[at.PHASES_AT], np.int64, phases)
        for column, offset in self._offsets.items():
            self.counts[:, column] = self.rows + offset
        if not self._buckets:
            self.counts[:, at.TOTALS_AT] = 0
        self.counts[:, at.TELEMETRY_AT] = (
            self.telemetry.ctypes.data + at.NUM_TELEMETRY * _WORD * np.arange(self.count)
        )

    def _view(self, offset: int, dtype: Any, *shape: int) -> NDArray[Any]:
        """Returns the section of all rows that begins at an offset in bytes."""
        inner = [_WORD * int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
        return np.ndarray(
            (self.count, *shape),
            dtype=dtype,
            buffer=self._memory,
            offset=offset,
            strides=(self._row_bytes, *inner),
        )
