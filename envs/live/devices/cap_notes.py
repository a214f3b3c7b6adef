"""Notes on disk of the caps that were found, for when controller and guard are both killed.

A lowered cap then stays, and the next controller would take it for the one that was found. So
the cap found is noted before the first one is set, together with those that we set, until it is
restored. A cap in force that is none of ours was set by an operator since, and counts as found.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from envs.errors import DeviceError
from envs.live import private_folder

_LOG = logging.getLogger(__name__)
_BOOT = Path("/proc/sys/kernel/random/boot_id")
TOLERANCE_MW = 1000


@dataclass
class CapNote:
    """What is noted of one GPU.

    Attributes:
        found_mw: The cap that was found, in milliwatts.
        set_mw: The caps that may be in force by our doing: the last one set, and the next.
        clock_locked: Whether we may have locked its clock.
        boot: Start of the machine for which this holds; a driver that loads forgets caps.
    """

    found_mw: int
    set_mw: list[int] = field(default_factory=list)
    clock_locked: bool = False
    boot: str = field(default_factory=lambda: _boot())

    def explains(self, cap_mw: int) -> bool:
        """Whether a cap in force is of our doing."""
        return any(abs(cap_mw - ours) <= TOLERANCE_MW for ours in self.set_mw)


class CapNotes:
    """The notes of all GPUs, one small file each, in the private folder."""

    def read(self, uuid: str) -> CapNote | None:
        """Returns what was noted of a GPU and not restored since; ``None`` if nothing was."""
        try:
            note = CapNote(**json.loads(self._file(uuid).read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            _LOG.warning("the note of %s's cap cannot be read and is passed over: %s", uuid, error)
            return None
        return note if note.boot == _boot() else None

    def write(self, uuid: str, note: CapNote) -> None:
        """Notes something of a GPU, as a whole or not at all.

        Raises:
            DevicePermissionError: The folder is not ours alone.
            DeviceError: It cannot be written.
        """
        folder = private_folder.private(private_folder.directory())
        file, new = self._file(uuid), folder / f"note-{os.getpid()}.new"
        try:
            new.write_text(json.dumps(asdict(note)))
            new.replace(file)
        except OSError as error:
            raise DeviceError(
                f"{file}: the cap found cannot be noted ({error.strerror}), so none is set"
            ) from error

    def clear(self, uuid: str) -> None:
        """Forgets a GPU, which has its cap back."""
        with contextlib.suppress(OSError):
            self._file(uuid).unlink(missing_ok=True)

    def _file(self, uuid: str) -> Path:
        digest = hashlib.sha256(uuid.encode()).hexdigest()[:16]
        return private_folder.directory() / f"{digest}.cap.json"


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""
