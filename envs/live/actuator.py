"""Sets the knobs in a thread of its own, so that a slow knob never holds a decision up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from envs.errors import PalsError
from envs.knobs import Knobs
from envs.live.errors import ActuationError


class Actuator:
    """Carries out the newest knobs asked for; older ones that were not started are skipped.

    Args:
        set_cap: Sets the power cap in watts.
        set_clock: Bounds the SM clock in MHz, or frees it.
        set_batch: Sets the batch limit.
    """

    def __init__(
        self,
        set_cap: Callable[[float], None],
        set_clock: Callable[[float | None], None],
        set_batch: Callable[[int], None],
    ) -> None:
        self._set = {
            "power_cap_w": set_cap,
            "sm_clock_mhz": set_clock,
            "max_num_seqs": set_batch,
        }
        self._done: dict[str, Any] = {"sm_clock_mhz": None}
        self._wanted: tuple[Knobs, float] | None = None
        self._busy = False
        self._error: PalsError | None = None
        self._latency_s: dict[str, float] = {}
        self._ended = False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="actuator", daemon=True)
        self._thread.start()

    def ask(self, knobs: Knobs) -> None:
        """Asks for knobs and returns at once."""
        with self._change:
            self._wanted = (knobs, time.monotonic())
            self._change.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Waits until everything asked for is done; returns whether it is."""
        with self._change:
            return self._change.wait_for(lambda: self._wanted is None and not self._busy, timeout_s)

    def forget(self) -> None:
        """Forgets what is set: a server or device that started again knows nothing of it."""
        with self._change:
            self._done = {"sm_clock_mhz": None}

    def take_latency_s(self) -> dict[str, float]:
        """Returns, by knob, the time from asking to done, of knobs set since the last call.

        Raises:
            PalsError: A knob could not be set.
        """
        with self._change:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            latency, self._latency_s = self._latency_s, {}
            return latency

    def close(self) -> None:
        """Ends the thread; what was not started is not done."""
        with self._change:
            self._ended = True
            self._wanted = None
            self._change.notify_all()
        self._thread.join(10.0)

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._wanted is not None or self._ended)
                if self._ended or self._wanted is None:
                    return
                (knobs, asked), self._wanted = self._wanted, None
                self._busy = True
                done = dict(self._done)
            try:
                self._carry_out(knobs, asked, done)
            except PalsError as error:
                with self._change:
                    self._error = error
            except Exception as error:  # a thread that ends unheard would leave knobs unset
                with self._change:
                    self._error = ActuationError(f"cannot set {knobs}: {error!r}")
            finally:
                with self._change:
                    self._busy = False
                    self._change.notify_all()

    def _carry_out(self, knobs: Knobs, asked: float, done: dict[str, Any]) -> None:
        for name, value in knobs._asdict().items():
            if name in done and done[name] == value:
                continue
            self._set[name](value)
            with self._change:
                self._done[name] = value
                self._latency_s[name] = time.monotonic() - asked
