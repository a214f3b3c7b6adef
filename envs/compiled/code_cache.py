"""Where compiled code is kept between processes, so that nobody else's is ever run.

Numba keeps pickles, which are code: a user who can write them can run any code as the reader.
Here they lie in a folder that is the user's own and closed to others, and each is read only when
it is as it was written. A file that is damaged is compiled again, and a folder that cannot be used
costs the time to compile, never the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import numba
from numba.core.serialize import dumps

from envs.cache import CACHE_VARIABLE, atomic_write_bytes, cache_dir
from envs.errors import ConfigurationError
from envs.safe_files import read_regular
from envs.user_paths import user_path

_LOG = logging.getLogger(__name__)
_MAGIC = b"pals-gym compiled code 1\n"
_MOST_BYTES = 256 << 20
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
FOLDER_VARIABLE = "PALS_COMPILED"
_said: set[str] = set()
_dumps: Any = dumps  # untyped in Numba


class CodeFiles:
    """The compiled forms of one function, one file per signature and machine.

    It takes the place of Numba's ``IndexDataCacheFile``.

    Args:
        name: Name of the function's files.
        stamp: Digest of everything that is compiled into it; files of another are removed.
    """

    def __init__(self, name: str, stamp: str) -> None:
        self._name = name
        versions = f"{numba.__version__} {stamp}"
        self._stamp = hashlib.sha256(versions.encode()).hexdigest()[:16]

    def load(self, key: Any) -> Any:
        """Returns what was saved under a key, or ``None`` if it has to be compiled."""
        folder = code_folder()
        if folder is None:
            return None
        file = self._file(folder, key)
        if not os.path.lexists(file):
            return None
        try:
            return _unpacked(read_regular(file, _MOST_BYTES), key)
        except Exception as error:  # whatever a file of another version makes pickle raise
            _say(f"compiled code in {file} is damaged ({error}); it is compiled again")
            with contextlib.suppress(OSError):
                file.unlink()
            return None

    def save(self, key: Any, data: Any) -> None:
        """Writes compiled code whole, so that a reader sees all of it or none."""
        folder = code_folder()
        if folder is None:
            return
        payload: bytes = _dumps((key, data))
        content = _MAGIC + hashlib.sha256(payload).digest() + payload
        try:
            atomic_write_bytes(self._file(folder, key), content, private=True)
            for old in folder.glob(f"{self._name}.*"):
                if not old.name.startswith(f"{self._name}.{self._stamp}."):
                    old.unlink(missing_ok=True)
        except OSError as error:
            _say(f"compiled code is not kept in {folder} ({error.strerror})")

    def flush(self) -> None:
        """Removes all compiled forms of the function."""
        folder = code_folder()
        for file in [] if folder is None else folder.glob(f"{self._name}.*"):
            file.unlink(missing_ok=True)

    def _file(self, folder: Path, key: Any) -> Path:
        named = hashlib.sha256(str(key).encode()).hexdigest()[:16]
        return folder / f"{self._name}.{self._stamp}.{named}"


def _unpacked(content: bytes, key: Any) -> Any:
    begin = len(_MAGIC) + hashlib.sha256().digest_size
    payload = content[begin:]
    if content[:begin] != _MAGIC + hashlib.sha256(payload).digest():
        raise ValueError("it is not as it was written")
    kept, data = pickle.loads(payload)
    if kept != key:
        raise ValueError("it is of another signature")
    return data


def code_folder() -> Path | None:
    """Returns the folder of compiled code, or ``None`` where none can be trusted or written.

    It is ``$PALS_COMPILED``, or else ``compiled`` in the folder for caches. What lies in a folder
    that others could write is thrown away.
    """
    try:
        own = os.environ.get(FOLDER_VARIABLE)
        folder = user_path(own, FOLDER_VARIABLE) if own else cache_dir() / "compiled"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700, parents=True)
        problem = _problem(folder)
    except ConfigurationError as error:
        problem = str(error)
    except OSError as error:
        problem = f"{folder}: {error.strerror}"
    if problem is None:
        return folder
    _say(f"compiled code is not kept: {problem}")
    return None


def _problem(folder: Path) -> str | None:
    """Makes the folder private; returns why it cannot be used, if so."""
    above, state = folder.parent.stat(), folder.lstat()
    mine = os.geteuid()
    if above.st_uid not in (mine, 0) or _open_to_others(above):
        return f"{folder.parent} can be changed by other users; set {CACHE_VARIABLE}"
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != mine:
        return f"{folder} is not a folder of your own"
    if state.st_mode & _OTHERS_MAY_WRITE:
        _say(f"others could write into {folder}: what lies there is thrown away and compiled again")
        for file in folder.iterdir():
            file.unlink()
    if state.st_mode & 0o077:
        folder.chmod(0o700)
    return None


def _open_to_others(state: os.stat_result) -> bool:
    """Returns whether others may replace what lies in a folder, not only add to it."""
    return bool(state.st_mode & _OTHERS_MAY_WRITE) and not state.st_mode & stat.S_ISVTX


def _say(message: str) -> None:
    """Says something once in a process."""
    if message not in _said:
        _said.add(message)
        _LOG.warning("%s", message)
