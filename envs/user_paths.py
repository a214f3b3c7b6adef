"""Paths as people write them: ``~`` is the home folder."""

from __future__ import annotations

import os
from pathlib import Path

from envs.errors import ConfigurationError


def user_path(text: str | os.PathLike[str], key: str = "") -> Path:
    """Returns a path in which ``~`` and ``~user`` stand for home folders.

    A file or folder that is itself called ``~name`` is meant where it is there.

    Args:
        text: The path.
        key: What it was given for, which the message begins with.

    Raises:
        ConfigurationError: It begins with the home of a user who is not known here.
    """
    path = Path(os.path.expanduser(text))  # Path.expanduser fails for unknown users with no key
    first = next(iter(path.parts), "")
    if first.startswith("~") and not os.path.lexists(first):
        where = f"{key}: " if key else ""
        raise ConfigurationError(
            f"{where}{os.fspath(text)}: no home folder of {_who(first)} is known on this machine; "
            f"write the whole path, or ./{first} for what is called so"
        )
    return path


def _who(first: str) -> str:
    return f"a user {first[1:]!r}" if len(first) > 1 else "yours"
