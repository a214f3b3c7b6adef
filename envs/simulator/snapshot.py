"""The saved state of a simulated server."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.simulator.requests import SavedRequests
from envs.simulator.state import EngineSpec, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A server between two intervals: what planners, bounds and tree searches go back to.

    It is one memory copy of the server's row with its queue. A server that is restored from it
    goes on exactly as the original did, the requests that are yet to be drawn included: both
    read them from one shared stream. A planner that may not know them gives its servers a
    stream of their own (:meth:`envs.simulator.fleet.Fleet.begin`).

    Attributes:
        row: The server's row, counts of latencies included.
        live: Bytes of it that count.
        form: Where its lists lie.
        telemetry: Telemetry of the last interval, shape ``(NUM_TELEMETRY,)``.
        requests: Its queue, and what is to come.
        spec: What the server is in this episode.
        model: Its step model.
        fractions: Fraction of each GPU in its power.
        totals_bytes: Bytes of the counts of latencies; 0 where they are not counted.
    """

    row: NDArray[np.uint8]
    live: int
    form: tuple[int, ...]
    telemetry: FloatArray
    requests: SavedRequests
    spec: EngineSpec
    model: NDArray[Any]
    fractions: FloatArray
    totals_bytes: int

    @cached_property
    def source(self) -> IntArray:
        """What :func:`envs.simulator.kernel.copying.restore_rows` is told of it."""
        return np.array(
            [
                self.row.ctypes.data, self.live, self.form[-1], self.totals_bytes,
                self.telemetry.ctypes.data, self.telemetry.nbytes, self.requests.address,
            ]
        )  # fmt: skip
