"""Processes that find no compiled code take turns: one compiles, the others wait and load it."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from pathlib import Path

_LOG = logging.getLogger(__name__)
_WAIT_S = 120.0
"""Longest wait for another process: then this one compiles, too."""
_QUIET_S = 1.5
"""Compiling that takes longer is mentioned."""
_PAUSE_S = 0.05


class Turn:
    """The turn of this process to compile, for one folder of compiled code after another.

    What is compiled may need other functions to be compiled; they belong to the same turn.
    The lock lies on the folder itself, and ends with the process at the latest.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._handle: int | None = None
        self._note: threading.Timer | None = None

    def take(self, folder: Path | None) -> None:
        """Waits until no other process compiles.

        Args:
            folder: Where compiled code is kept; ``None`` where it is not.
        """
        self._depth += 1
        if self._depth > 1:
            return
        if folder is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                _wait(self._handle)
        self._note = threading.Timer(_QUIET_S, _say, [folder])
        self._note.daemon = True
        self._note.start()

    def give(self) -> None:
        """Ends a turn: the code is compiled and kept, or was found after all."""
        self._depth = max(0, self._depth - 1)
        if self._depth:
            return
        if self._note is not None:
            self._note.cancel()
        if self._handle is not None:
            os.close(self._handle)
        self._note = self._handle = None


def _wait(handle: int) -> None:
    """Locks a folder, for which it waits as long as another process has it."""
    until_s = time.monotonic() + _WAIT_S
    while time.monotonic() < until_s:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(_PAUSE_S)


_said = threading.Event()


def _say(folder: Path | None) -> None:
    if not _said.is_set():
        _said.set()
        kept = "it is not kept" if folder is None else f"it is done once and kept in {folder}"
        _LOG.warning("the simulator is being compiled for this machine, some 10 s; %s", kept)
