"""Results in the cache folder: each is read only when it is as it was written.

A file begins with the SHA-256 of its own name and content. One that is damaged, edited or put
under another name is not used: its owner computes it again, and a line says so. A folder that
cannot be read or written, or a full disk, costs time, never the run.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import stat
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from envs.cache import atomic_write_bytes, cache_dir, remove_abandoned, writing_whole
from envs.errors import ConfigurationError
from envs.safe_files import open_regular, read_regular

_LOG = logging.getLogger(__name__)
_MAGIC = b"pals-gym kept 1\n"
_BEGIN = len(_MAGIC) + hashlib.sha256().digest_size
_MOST_BYTES = 1 << 30
_BLOCK = 1 << 20
_said: set[str] = set()


def read_kept(folder: str, name: str) -> bytes | None:
    """Returns a kept content, or ``None`` if it has to be computed.

    Args:
        folder: Folder in the cache folder.
        name: Name of the file, which holds a hash of all that the content depends on.
    """
    try:
        file = cache_dir() / folder / name
        if not file.exists():
            return None
        content = read_regular(file, _MOST_BYTES)
    except (ConfigurationError, OSError) as error:
        say_once(f"{error}; what is kept there is computed again")
        return None
    payload = content[_BEGIN:]
    if content[:_BEGIN] == _MAGIC + _seal(name, payload):
        return payload
    say_once(f"{file} is not as it was written; it is computed again")
    return None


def keep(folder: str, name: str, payload: bytes) -> Path | None:
    """Keeps a content; see :func:`read_kept`.

    Returns:
        The file, or ``None`` where it cannot be written.
    """
    try:
        file = cache_dir() / folder / name
        remove_abandoned(file.parent)
        atomic_write_bytes(file, _MAGIC + _seal(name, payload) + payload)
    except (ConfigurationError, OSError) as error:
        say_once(f"nothing is kept for later: {error}")
        return None
    return file


@contextmanager
def keeping(folder: str, name: str) -> Iterator[Callable[[bytes], None]]:
    """Keeps a content that is written piece by piece, for :func:`map_kept`.

    Yields:
        What takes the pieces. If the block raises, nothing is kept.

    Raises:
        ConfigurationError, OSError: It cannot be written.
    """
    path = cache_dir() / folder / name
    remove_abandoned(path.parent)
    with writing_whole(path) as file:
        total = hashlib.sha256(name.encode() + b"\0")
        file.write(bytes(_BEGIN))

        def write(piece: bytes) -> None:
            total.update(piece)
            file.write(piece)

        yield write
        file.seek(0)
        file.write(_MAGIC + total.digest())


def map_kept(folder: str, name: str) -> tuple[mmap.mmap, int] | None:
    """Returns a kept content without holding it in memory; see :func:`read_kept`.

    Returns:
        The file, mapped, and where the content begins; ``None`` if it has to be computed.
    """
    try:
        file = cache_dir() / folder / name
        if not file.exists():
            return None
        with open_regular(file) as opened:
            total = hashlib.sha256(name.encode() + b"\0")
            begin = opened.read(_BEGIN)
            while block := opened.read(_BLOCK):
                total.update(block)
            if begin == _MAGIC + total.digest():
                with suppress(OSError):  # another user's
                    os.utime(opened.fileno())
                return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ), _BEGIN
    except (ConfigurationError, OSError) as error:
        say_once(f"{error}; what is kept there is computed again")
        return None
    say_once(f"{file} is not as it was written; it is computed again")
    return None


def forget_oldest(folder: str, most_bytes: int, in_use: Container[str]) -> None:
    """Removes what was not mapped for the longest time, until a folder is small enough.

    Other processes that have a file mapped keep its content, and those that look for it compute
    it again.

    Args:
        folder: Folder in the cache folder.
        most_bytes: How much it may hold.
        in_use: Names of files that stay, even if they alone are larger.
    """
    with suppress(ConfigurationError, OSError):
        found = [
            (status.st_mtime_ns, entry.name, status.st_size)
            for entry in os.scandir(cache_dir() / folder)
            if stat.S_ISREG((status := entry.stat(follow_symlinks=False)).st_mode)
        ]
        total = sum(size for _, _, size in found)
        for _, name, size in sorted(found):
            if total <= most_bytes:
                return
            if name not in in_use and not name.startswith("."):
                (cache_dir() / folder / name).unlink(missing_ok=True)
                total -= size


def _seal(name: str, payload: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + payload).digest()


def say_once(message: str) -> None:
    """Says something once in a process."""
    if message not in _said:
        _said.add(message)
        _LOG.warning("%s", message)
