"""Notes on disk of the batch limits that were found on servers that do not note them themselves.

Without leases a limit of ours stays where controller and guard are killed together, and the next
controller would take it for the one found. So what was found is noted before a limit is set,
together with those that we set, until it is restored; a server that was started again is another.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import NamedTuple

from envs.live import private_folder
from envs.live.errors import BatchLimitError, DevicePermissionError
from envs.strict_json import read_json


class LimitNote(NamedTuple):
    """What is noted of one instance of a server.

    Attributes:
        found: The limit to put back.
        ours: The limits that may be in force by our doing.
    """

    found: int
    ours: list[int]


def read(instance: str) -> LimitNote | None:
    """Returns what was noted and not restored since; ``None`` if nothing was."""
    try:
        told = read_json(_file(instance).read_text())
        return LimitNote(int(told["found"]), [int(limit) for limit in told["ours"]])
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None


def write(instance: str, note: LimitNote) -> None:
    """Notes limits, as a whole or not at all.

    Raises:
        BatchLimitError: They cannot be noted, so none may be set.
    """
    try:
        private_folder.write_note(_file(instance), json.dumps(note._asdict()))
    except (OSError, DevicePermissionError) as error:
        raise BatchLimitError(
            f"the batch limit found cannot be noted, so none is set: {error}"
        ) from error


def clear(instance: str) -> None:
    """Forgets a server that has its limit back."""
    with contextlib.suppress(OSError):
        _file(instance).unlink(missing_ok=True)


def _file(instance: str) -> Path:
    return private_folder.note_file(instance, "limit")
