"""What may stand where a file is expected, and is none that can be read whole."""

from __future__ import annotations

import os
from pathlib import Path

ODD = ("pipe", "device", "folder")
"""Kinds of it."""


def put_odd(file: Path, kind: str) -> None:
    """Puts something of a kind of :data:`ODD` where a file is expected; nothing must be there."""
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        assert kind == "folder"
        file.mkdir()
