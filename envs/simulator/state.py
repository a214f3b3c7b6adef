"""The state of simulated servers: what lies in their rows, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.compiled.rows import Rows, addresses_of_rows
from envs.latency import LATENCY_BUCKETS
from envs.simulator.kernel import layout as at
from envs.telemetry import NUM_TELEMETRY

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class ServerStates:
    """State of ``count`` servers of one size.

    Args:
        count: Number of servers.
        slots: Requests that may be admitted at once, per server.
        block_size: Largest number of tokens per KV block.
        latency: Whether latencies are counted over whole episodes.

    Attributes:
        addresses: Addresses of the rows, shape ``(count,)``.
        numbers: Floating-point state, shape ``(count, NUM_NUMBERS)``.
        counts: Integer state, shape ``(count, NUM_COUNTS)``.
        totals: Latency counts, shape ``(count, 3, LATENCY_BUCKETS)``, or ``(count, 3, 0)``
            when latencies are not counted.
        telemetry: Telemetry of the last interval, shape ``(count, NUM_TELEMETRY)``.
    """

    def __init__(self, count: int, slots: int, block_size: int, *, latency: bool) -> None:
        self._slots = slots
        self._rows = Rows(
            count,
            numbers=(float, at.NUM_NUMBERS),
            counts=(int, at.NUM_COUNTS),
            PHASES_AT=(int, block_size),
            FINISHING_AT=(int, 2 * slots),
            FREE_AT=(int, slots),
            PREFILLING_AT=(int, slots),
            PREEMPTED_AT=(int, slots),
            SLOTS_AT=(int, slots, at.NUM_SLOT_FIELDS),
            STAMPS_AT=(float, slots, at.NUM_STAMPS),
            SAMPLES_AT=(float, 3, at.SAMPLES),
            TOTALS_AT=(int, 3, LATENCY_BUCKETS if latency else 0),
        )
        self.telemetry = np.zeros((count, NUM_TELEMETRY))
        self._locate()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the views, which must share memory with the rows."""
        return {"_slots": self._slots, "_rows": self._rows, "telemetry": self.telemetry}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes the views again."""
        self.__dict__.update(state)
        self._locate()

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

    def _locate(self) -> None:
        rows = self._rows
        self.addresses: IntArray = rows.addresses
        self.numbers: FloatArray = rows.view("numbers")
        self.counts: IntArray = rows.view("counts")
        self.totals: IntArray = rows.view("TOTALS_AT")
        self._free, self._phases = rows.view("FREE_AT"), rows.view("PHASES_AT")
        for name in (
            "PHASES_AT", "FINISHING_AT", "FREE_AT", "PREFILLING_AT", "PREEMPTED_AT", "SLOTS_AT",
            "STAMPS_AT", "SAMPLES_AT", "TOTALS_AT",
        ):  # fmt: skip
            self.counts[:, getattr(at, name)] = rows.addresses_of(name)
        if self.totals.size == 0:
            self.counts[:, at.TOTALS_AT] = 0
        self.counts[:, at.TELEMETRY_AT] = addresses_of_rows(self.telemetry)
