"""The elastic clock of a real-time environment."""

from __future__ import annotations

import time
from collections.abc import Callable


class ElasticClock:
    """Deadlines one interval apart, as long as the controller keeps up.

    A late decision shortens the wait that follows, so that lateness does not add up. More than
    one interval behind, the clock gives the lost time up and counts again from now
    (the elastic step of rtgym).

    Args:
        now: Source of the time in seconds.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._now = now
        self._sleep = sleep
        self.deadline_s = now()
        self.resynchronised = False

    def restart(self) -> None:
        """Counts from now."""
        self.deadline_s = self._now()
        self.resynchronised = False

    def next_deadline(self, seconds: float) -> float:
        """Moves on by one interval and returns the new deadline."""
        self.deadline_s += seconds
        now = self._now()
        self.resynchronised = now - self.deadline_s > seconds
        if self.resynchronised:
            self.deadline_s = now
        return self.deadline_s

    def sleep_until(self, deadline_s: float, check: Callable[[], None]) -> None:
        """Sleeps until a deadline, calling ``check`` at least once a second."""
        while True:
            check()
            left = deadline_s - self._now()
            if left <= 0:
                return
            self._sleep(min(left, 1.0))
