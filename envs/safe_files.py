"""Reading files that another user may have written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from envs.errors import ConfigurationError


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
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as opened:
            state = os.fstat(handle)
            if not stat.S_ISREG(state.st_mode):
                raise ConfigurationError(f"{file}: not a regular file")
            content = opened.read(most_bytes + 1)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror})") from error
    if len(content) > most_bytes:
        raise ConfigurationError(
            f"{file}: larger than the {most_bytes:,} bytes that such a file can have"
        )
    return content
