"""Limits CPU time without control groups: stops and continues the processes by signals."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import Any

from typing_extensions import override

from envs.live.devices.processes import start_ticks
from envs.live.devices.quota import Quota
from envs.live.errors import DeviceLostError

PERIOD_S = 0.02


class DutyCycle(Quota):
    """Stops the processes for a part of every 20 ms.

    Coarser than a control group, and the stopped part counts whether or not the processes had
    anything to do; it needs no rights beyond owning the processes.
    """

    name = "signals"

    def __init__(self) -> None:
        self._starts: dict[int, int] = {}
        self._cores: float | None = None
        self._bound_s = 0.0
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    @override
    def attach(self, pids: list[int]) -> None:
        for pid in pids:
            start = start_ticks(pid)
            if start is None:
                raise DeviceLostError(f"process {pid} ended")
            self._starts[pid] = start

    @override
    def set(self, cores: float | None) -> None:
        self._cores = None if cores is None or cores >= 1.0 else cores
        if self._cores is not None and self._thread is None:
            self._end.clear()
            self._thread = threading.Thread(target=self._cycle, name="duty-cycle", daemon=True)
            self._thread.start()

    @override
    def bound_s(self) -> float:
        return self._bound_s

    @override
    def state(self) -> dict[str, Any]:
        return {
            "mechanism": self.name,
            "starts": {str(pid): start for pid, start in self._starts.items()},
        }

    @override
    def release(self, state: dict[str, Any]) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        _send(signal.SIGCONT, {int(pid): start for pid, start in state["starts"].items()})

    def _cycle(self) -> None:
        while not self._end.is_set():
            cores = self._cores
            if cores is None:
                self._end.wait(PERIOD_S)
                continue
            _send(signal.SIGSTOP, self._starts)
            stopped = time.monotonic()
            self._end.wait((1.0 - cores) * PERIOD_S)
            _send(signal.SIGCONT, self._starts)
            # A pause that came out too long is paid back by running longer.
            pause = time.monotonic() - stopped
            run = pause * cores / (1.0 - cores)
            self._end.wait(run)
            self._bound_s += pause + run


def _send(number: signal.Signals, starts: dict[int, int]) -> None:
    for pid, start in starts.items():
        if start_ticks(pid) == start:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
