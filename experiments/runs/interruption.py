"""Ends a run by SIGTERM as by Ctrl-C: everything is put back, and the record is written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

FAILURES = (Exception, SystemExit)
"""What may end a run that is due a result: a user's controller can call ``sys.exit(0)``."""
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
_CAME: list[int] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM came; a service manager or a scheduler ends the run."""


@contextmanager
def sigterm_interrupts(wanted: bool = True) -> Iterator[None]:
    """Turns SIGTERM into :class:`Terminated`, once; another one ends the process at once.

    Then the guard of a live server puts everything back.

    Args:
        wanted: Whether to do so.
    """
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _CAME.append(number)
        raise Terminated

    _CAME.clear()
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _CAME.clear()


def heed_lost_sigterm() -> None:
    """Looks between two intervals whether SIGTERM came and its exception was lost.

    Python ignores an exception in a function that C code calls, as LLVM does when it compiles.

    Raises:
        Terminated: It came.
    """
    if _CAME:
        raise Terminated
