"""Locks that keep two controllers off one device or server."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os

from envs.live import private_folder
from envs.live.errors import DeviceBusyError


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


def _lock(name: str) -> int:
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    file = private_folder.private(private_folder.directory()) / f"{digest}.lock"
    descriptor = private_folder.open_own(file)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _printable(os.pread(descriptor, 64, 0))
        os.close(descriptor)
        raise DeviceBusyError(
            f"{name} is controlled by another process ({holder or 'unknown'}); "
            f"one controller at a time ({file})"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"pid {os.getpid()}\n".encode(), 0)
    return descriptor


def _printable(raw: bytes) -> str:
    """Returns what may be shown on a terminal."""
    return "".join(c for c in raw.decode("ascii", errors="ignore") if c.isprintable()).strip()
