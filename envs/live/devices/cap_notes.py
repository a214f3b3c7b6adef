"""Notes on disk of the caps that were found, for when controller and guard are both killed.

A lowered cap then stays, and the next controller would take it for the one that was found. So
the cap found is noted before the first one is set, together with those that we set, until it is
restored. A cap in force that is none of ours was set by an operator since, and counts as found:
the controller, its guard and the next controller put caps back by the note.
"""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

from envs.errors import DeviceError
from envs.live import private_folder
from envs.strict_json import read_json

_LOG = logging.getLogger(__name__)
_BOOT = Path("/proc/sys/kernel/random/boot_id")
TOLERANCE_MW = 1000


@dataclass
class CapNote:
    """What is noted of one GPU.

    Attributes:
        found_mw: The cap that was found, in milliwatts.
        set_mw: The caps that may be in force by our doing: the last one set, and the next.
        ceiling_mw: The lowest cap that others set since; none of ours exceeds it.
        clock_locked: Whether we may have locked its clock.
        boot: Start of the machine for which this holds; a driver that loads forgets caps.
    """

    found_mw: int
    set_mw: list[int] = field(default_factory=list)
    ceiling_mw: int | None = None
    clock_locked: bool = False
    boot: str = field(default_factory=lambda: _boot())

    def explains(self, cap_mw: int) -> bool:
        """Whether a cap in force is of our doing."""
        return any(abs(cap_mw - ours) <= TOLERANCE_MW for ours in self.set_mw)

    def adopt(self, cap_mw: int) -> None:
        """Takes a cap that others set for the one found, and for a ceiling."""
        self.found_mw = cap_mw
        self.set_mw = [cap_mw]
        self.ceiling_mw = cap_mw if self.ceiling_mw is None else min(self.ceiling_mw, cap_mw)

    def bounded(self, cap_mw: int) -> int:
        """Returns a cap that we want, or the ceiling that others set since."""
        return cap_mw if self.ceiling_mw is None else min(cap_mw, self.ceiling_mw)


class CapNotes:
    """The notes of all GPUs, one small file each, in the private folder."""

    def read(self, uuid: str) -> CapNote | None:
        """Returns what was noted of a GPU and not restored since; ``None`` if nothing was."""
        try:
            note = CapNote(**read_json(self._file(uuid).read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, RecursionError) as error:
            _LOG.warning("the note of %s's cap cannot be read and is passed over: %s", uuid, error)
            return None
        return note if note.boot == _boot() else None

    def write(self, uuid: str, note: CapNote) -> None:
        """Notes something of a GPU, as a whole or not at all.

        Raises:
            DevicePermissionError: The folder is not ours alone.
            DeviceError: It cannot be written.
        """
        file = self._file(uuid)
        try:
            private_folder.write_note(file, json.dumps(asdict(note)))
        except OSError as error:
            raise DeviceError(
                f"{file}: the cap found cannot be noted ({error.strerror}), so none is set"
            ) from error

    def clear(self, uuid: str) -> None:
        """Forgets a GPU, which has its cap back."""
        with contextlib.suppress(OSError):
            self._file(uuid).unlink(missing_ok=True)

    def _file(self, uuid: str) -> Path:
        return private_folder.note_file(uuid, "cap")


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""
