"""Signals that come while the service is still being loaded: they end it cleanly, too.

It takes seconds to load its modules and to read its settings, in which a signal would end it in
the system's way, with another code than 0. This module loads nothing, so that it can be first.
"""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

_HUNG_UP: list[int] = []
_CODES = {signal.SIGTERM: 0, signal.SIGINT: 130}


def heed() -> None:
    """Heeds signals until the service itself does; nothing has been opened or changed by then."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _note)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def hand_over() -> None:
    """Lets Ctrl-C interrupt as usual, since there is something to put back from now on."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def hung_up() -> bool:
    """Whether the settings were to be read again while they were read."""
    return bool(_HUNG_UP)


def _note(number: int, frame: FrameType | None) -> None:
    _HUNG_UP.append(number)


def _end(number: int, frame: FrameType | None) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    name = signal.Signals(number).name
    os.write(1, f"{now} INFO ended by {name} while starting; nothing was changed\n".encode())
    os._exit(_CODES[signal.Signals(number)])  # an exception may be lost in what is being loaded
