"""One command at a time writes into a folder."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from envs.errors import ConfigurationError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other commands out of a folder; the lock ends with the process, however it ends.

    On file systems without locks of folders there is none.

    Raises:
        ConfigurationError: Another command writes into the folder, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(
            f"hydra.run.dir: {folder} cannot be used ({error.strerror})"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                raise ConfigurationError(
                    f"hydra.run.dir: another command writes into {folder}; wait for its end, or "
                    "name another folder"
                ) from error
        yield
    finally:
        os.close(descriptor)
