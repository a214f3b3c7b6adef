"""Results in the cache folder: each is read only when it is as it was written.

A file begins with the SHA-256 of its own name and content. One that is damaged, edited or put
under another name is not used: its owner computes it again, and a line says so. A folder that
cannot be read or written, or a full disk, costs time, never the run.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from envs.cache import atomic_write_bytes, cache_dir, writing_whole
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
    with writing_whole(cache_dir() / folder / name) as file:
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
                return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ), _BEGIN
    except (ConfigurationError, OSError) as error:
        say_once(f"{error}; what is kept there is computed again")
        return None
    say_once(f"{file} is not as it was written; it is computed again")
    return None


def _seal(name: str, payload: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + payload).digest()


def say_once(message: str) -> None:
    """Says something once in a process."""
    if message not in _said:
        _said.add(message)
        _LOG.warning("%s", message)
