"""Where expensive results are kept between runs, and how files are written whole."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from envs.errors import ConfigurationError
from envs.user_paths import user_path

CACHE_VARIABLE = "PALS_CACHE"
_BEING_MADE_S = 60.0


def cache_dir() -> Path:
    """Returns the folder for caches, created if need be.

    It is ``$PALS_CACHE``, or else ``pals-gym`` in the user's cache folder
    (``$XDG_CACHE_HOME``, by default ``~/.cache``).

    Raises:
        ConfigurationError: The folder cannot be created.
    """
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        folder = user_path(own, CACHE_VARIABLE)
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        folder = user_path(base, "XDG_CACHE_HOME") / "pals-gym"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{CACHE_VARIABLE}: cannot create the cache folder {folder} "
            f"({error.strerror}); set {CACHE_VARIABLE} to a folder you can write to"
        ) from error
    return folder


def atomic_write_bytes(path: Path, data: bytes, *, private: bool = False) -> None:
    """Writes a file so that readers see the old content or all of the new, never a part.

    Args:
        path: The file; its folder is created if need be.
        data: The whole content.
        private: Whether only its owner may read it.

    Raises:
        OSError: It cannot be written, or is no regular file; the error names the file, and its old
            content is still there.
    """
    with writing_whole(path, private=private) as file:
        file.write(data)


@contextmanager
def writing_whole(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Writes a file piece by piece; see :func:`atomic_write_bytes`.

    Yields:
        The new file, which takes its place when the block ends, and goes away if it raises.
    """
    with naming(path):
        refuse_irregular(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}."[:200])
        try:
            with os.fdopen(handle, "wb") as file:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield file
            Path(name).chmod(0o600 if private else 0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise


def remove_abandoned(folder: Path) -> None:
    """Removes what writers left half written in a folder when they were killed.

    Each file that :func:`writing_whole` is writing is locked by its writer, however long it takes;
    the lock ends with the writer.

    Args:
        folder: A folder of ours alone: any hidden file in it is taken for such a part.
    """
    for part in folder.glob(".*"):
        # No file that is being made: it is there before it is locked, and renamed after.
        with suppress(OSError):
            if not part.is_file() or part.is_symlink():
                continue
            if abs(time.time() - part.stat().st_mtime) < _BEING_MADE_S:
                continue
            with part.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()


def atomic_write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Writes a UTF-8 text file whole; see :func:`atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode("utf-8"), private=private)


def refuse_irregular(path: Path) -> None:
    """Refuses what a new file would replace for everybody: the superuser can, even ``/dev/null``.

    Raises:
        OSError: There is a folder, a device or a pipe, or the machine's name for one.
    """
    if path.is_dir():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    link_of_system = path.is_symlink() and path.parent.resolve() == Path("/dev")
    if link_of_system or (path.exists() and not path.is_file()):
        raise OSError(errno.EINVAL, "Not a regular file")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Has an error of the operating system name the file that it is about."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _umask() -> int:
    """Returns which permissions the user takes off new files."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
