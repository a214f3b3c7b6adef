"""Locks that keep two controllers off one device or server."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from pathlib import Path

from envs.live.errors import DeviceBusyError

SHARED = Path("/run/lock")


def directory() -> Path:
    """Returns where locks lie: the machine's place for them, the same for every user."""
    if SHARED.is_dir() and os.access(SHARED, os.W_OK):
        return SHARED
    return Path(tempfile.gettempdir())


class Locks:
    """Locks on some names; the kernel lets go of them when all holders end.

    Args:
        names: What to lock: GPU UUIDs, a server's address.

    Raises:
        DeviceBusyError: Another process holds one of them.
    """

    def __init__(self, names: list[str]) -> None:
        self.descriptors: list[int] = []
        try:
            for name in sorted(names):
                self.descriptors.append(_lock(name))
        except DeviceBusyError:
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
    file = directory() / f"pals-gym-{digest}.lock"
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    previous = os.umask(0)
    try:
        descriptor = os.open(file, flags, 0o666)
    finally:
        os.umask(previous)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise DeviceBusyError(
            f"{name} is controlled by another process ({holder or 'unknown'}); "
            f"one controller at a time ({file})"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"pid {os.getpid()}\n".encode(), 0)
    return descriptor
