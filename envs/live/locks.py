"""Locks that keep two controllers off one device or server."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import time

from envs.live import private_folder
from envs.live.errors import DeviceBusyError, DevicePermissionError

_ATTEMPTS, _PAUSE_S = 5, 0.02


class Locks:
    """Locks on some names; the kernel lets go of them when all holders end.

    Args:
        names: What to lock: GPU UUIDs, a server's address, its instance.

    Raises:
        DeviceBusyError: Another process holds one of them.
        DevicePermissionError: The folder of locks, or a lock in it, is not ours alone.
    """

    def __init__(self, names: list[str]) -> None:
        self.descriptors: list[int] = []
        tidy()
        try:
            for name in sorted(names):
                self.descriptors.append(_lock(name))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets go."""
        for descriptor in self.descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self.descriptors = []
        tidy()


def _lock(name: str) -> int:
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    file = private_folder.private(private_folder.directory()) / f"{digest}.lock"
    for attempt in range(_ATTEMPTS):
        descriptor = private_folder.open_own(file)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _printable(os.pread(descriptor, 64, 0))
            os.close(descriptor)
            if attempt < _ATTEMPTS - 1:  # it may be a process that tidies up
                time.sleep(_PAUSE_S)
                continue
            raise DeviceBusyError(
                f"{name} is controlled by another process ({holder or 'unknown'}); "
                f"one controller at a time ({file})"
            ) from error
        if os.fstat(descriptor).st_nlink:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()}\n".encode(), 0)
            return descriptor
        os.close(descriptor)  # it was taken away between opening and locking
    raise DeviceBusyError(f"{name}: {file} is taken away again and again")


def tidy() -> None:
    """Takes away the locks that nobody holds, such as those of servers that ended long ago."""
    with contextlib.suppress(OSError, DevicePermissionError):
        folder = private_folder.private(private_folder.directory())
        for file in folder.glob("*.lock"):
            with contextlib.suppress(OSError):
                descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
                try:
                    found = os.fstat(descriptor)
                    if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        file.unlink()
                finally:
                    os.close(descriptor)


def _printable(raw: bytes) -> str:
    """Returns what may be shown on a terminal."""
    return "".join(c for c in raw.decode("ascii", errors="ignore") if c.isprintable()).strip()
