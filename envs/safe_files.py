"""Reading files that another user may have written, and appending whole lines to ours."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from envs.errors import ConfigurationError

_LEAST_READ = 1 << 20
"""Of files that say less of their size, as those of the kernel do."""
_SEALED = b"pals-gym sealed 1\n"
_BEGIN = len(_SEALED) + hashlib.sha256().digest_size


def open_for_owner(file: Path, flags: int) -> int:
    """Opens a file, and makes it readable by its owner alone if it is not there.

    Args:
        file: The file.
        flags: Flags of ``os.open``.

    Returns:
        Its file descriptor.
    """
    return os.open(file, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)


def append_whole(stream: BinaryIO, line: bytes) -> None:
    """Appends a line as a whole or not at all.

    A disk that fills up takes the beginning of a line; the next one would be glued to it.

    Args:
        stream: A file that is open for writing, without a buffer.
        line: What to append.

    Raises:
        OSError: It cannot be written; the file is as it was.
    """
    handle = stream.fileno()
    size = os.fstat(handle).st_size
    if stream.write(line) < len(line):
        os.truncate(handle, size)
        os.lseek(handle, size, os.SEEK_SET)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_regular(file: Path, most_bytes: int) -> bytes:
    """Returns the content of a regular file of bounded size.

    Reading a pipe could block for ever, and a device such as ``/dev/zero`` has no end.

    Args:
        file: The file.
        most_bytes: Its largest acceptable size.

    Raises:
        ConfigurationError: It cannot be read, is no regular file or is too large.
    """
    try:
        with open_regular(file) as opened:
            size = os.fstat(opened.fileno()).st_size
            # Memory for what is asked for is taken before it is known how much there is.
            content = opened.read(min(most_bytes, max(size, _LEAST_READ)) + 1)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror})") from error
    if len(content) > most_bytes:
        raise ConfigurationError(
            f"{file}: larger than the {most_bytes:,} bytes that such a file can have"
        )
    return content


@contextmanager
def open_regular(file: Path) -> Iterator[BufferedReader]:
    """Opens a regular file for reading.

    Args:
        file: The file.

    Raises:
        ConfigurationError: It is no regular file.
        OSError: It cannot be opened.
    """
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as opened:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ConfigurationError(f"{file}: not a regular file")
        yield opened


def sealed(content: bytes) -> bytes:
    """Returns a content with its SHA-256 before it, for :func:`read_sealed`."""
    return _SEALED + hashlib.sha256(content).digest() + content


def read_sealed(file: Path, most_bytes: int) -> bytes:
    """Returns what :func:`sealed` was given, if not one bit of the file is another.

    Archives of tensors are read without complaint where a bit of a number is wrong.

    Args:
        file: The file.
        most_bytes: Its largest acceptable size.

    Raises:
        ConfigurationError: It cannot be read, or is not as it was written.
    """
    found = read_regular(file, most_bytes)
    content = found[_BEGIN:]
    if found[:_BEGIN] != _SEALED + hashlib.sha256(content).digest():
        raise ConfigurationError(f"{file}: not as it was written (damaged, edited or too old)")
    return content
