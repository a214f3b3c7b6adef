"""Says that SIGTERM ended a command, and where what it had finished is, before the signal ends it.

Nothing is raised: where LLVM or other C code has called Python, the exception would be lost.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_folder: list[Path] = []
_HYDRAS = ".hydra"
"""Hydra's own folder, which is there before a command has done anything."""


def finished_goes_to(folder: Path) -> None:
    """Notes where a command writes what it finishes.

    Args:
        folder: The folder.
    """
    _folder[:] = [folder]


@contextmanager
def termination_told() -> Iterator[None]:
    """Has SIGTERM write one line on standard error before it ends the process.

    Who heeds SIGTERM already, as the service does, goes on doing so.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    home = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() == home:  # and in no fork of it
            os.write(2, _line())
        signal.raise_signal(number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _folder.clear()


def kept() -> str:
    """Returns where the files of the command are, where there are any."""
    return "".join(
        f"; what it had finished is kept in {folder} (docs/experiments.md: what is used again)"
        for folder in _folder
        if any(name != _HYDRAS for name in _names(folder))
    )


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _line() -> bytes:
    return f"error: ended by SIGTERM{kept()}\n".encode(errors="replace")
