"""Power caps of NVIDIA GPUs: whose they are, set within bounds, put back as is right then."""

from __future__ import annotations

import logging
import threading
from typing import Any, NamedTuple

from envs.live.devices.cap_notes import TOLERANCE_MW, CapNote, CapNotes
from envs.live.devices.nvml_library import nvml_errors
from envs.live.errors import DevicePermissionError

_LOG = logging.getLogger(__name__)


class Gpu(NamedTuple):
    """One GPU: as the configuration names it, NVML's handle, and its UUID."""

    name: str
    handle: Any
    uuid: str


class NvmlCaps:
    """The power caps of some GPUs.

    A cap in force that is not the one set last was set by others. It is taken for the one
    found, so that it is what is put back, and for a ceiling of what is set from then on.

    Args:
        nvml: NVML's bindings, initialised.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._notes = CapNotes()
        self._told: dict[str, int] = {}
        self._held: dict[str, CapNote] = {}
        self._changes = 0
        self._writing = threading.Lock()  # a reading shall not take our own half-set caps for news

    def in_force_mw(self, gpu: Gpu) -> int:
        """Returns the cap in force in milliwatts."""
        with nvml_errors(self._nvml, f"power cap of GPU {gpu.name}"):
            return int(self._nvml.nvmlDeviceGetPowerManagementLimit(gpu.handle))

    def found(self, gpu: Gpu) -> CapNote:
        """Returns the cap that an operator set: the one in force, unless that is of ours."""
        if gpu.uuid in self._held:
            return self._held[gpu.uuid]
        now = self.in_force_mw(gpu)
        note = self._notes.read(gpu.uuid)
        if note is None or not note.explains(now):
            note = CapNote(now)
        self._told.setdefault(gpu.uuid, note.found_mw)
        return note

    def take(self, gpu: Gpu) -> CapNote:
        """Begins to control a cap; writing what holds already shows whether we may write.

        A cap below the one that :meth:`found` told first was lowered by others since.
        """
        note = self.found(gpu)
        now = self.in_force_mw(gpu)
        if gpu.uuid not in self._held and note.set_mw and now != note.found_mw:
            # Only now: before it is locked, such a cap may be that of a controller that runs.
            _LOG.warning(
                "GPU %s: its cap of %g W was left by a controller that was killed with its guard; "
                "%g W, which that one had found, counts as found",
                gpu.name, now * 1e-3, note.found_mw * 1e-3,
            )  # fmt: skip
        self._write(gpu, now)
        note.set_mw, note.ceiling_mw = [now], None
        if note.found_mw < self._told.pop(gpu.uuid, note.found_mw) - TOLERANCE_MW:
            _LOG.warning(
                "GPU %s: its cap was lowered to %g W meanwhile; no cap above it is set",
                gpu.name, note.found_mw * 1e-3,
            )  # fmt: skip
            note.ceiling_mw = note.found_mw
        self._held[gpu.uuid] = note
        self._notes.write(gpu.uuid, note)
        return note

    def note_locked_clock(self, gpu: Gpu) -> None:
        """Notes that the clock may be locked by our doing."""
        if not self._held[gpu.uuid].clock_locked:
            self._held[gpu.uuid].clock_locked = True
            self._notes.write(gpu.uuid, self._held[gpu.uuid])

    def set(self, gpus: list[Gpu], milliwatts: int) -> None:
        """Sets the cap of every GPU, or what others allow since, where that is lower.

        Raises:
            DeviceError: It may not, cannot, or is out of range.
        """
        if not self._held:
            raise DevicePermissionError("device: take_control() comes before set_power_cap()")
        with self._writing:
            for gpu in gpus:
                self._look(gpu)
                note = self._held[gpu.uuid]
                wanted = note.bounded(milliwatts)
                note.set_mw = [*note.set_mw[-1:], wanted]
                self._notes.write(gpu.uuid, note)
                self._write(gpu, wanted)
                # An operator who sets the level before means it: it is no more ours.
                note.set_mw = [wanted]
                self._notes.write(gpu.uuid, note)

    def look_for_changes(self, gpus: list[Gpu]) -> None:
        """Looks whether the caps in force are those that we set; not while we set them.

        A reading comes from another thread, maybe while some of the GPUs are taken and some not.
        """
        if self._held and self._writing.acquire(blocking=False):
            try:
                for gpu in gpus:
                    if gpu.uuid in self._held:
                        self._look(gpu)
            finally:
                self._writing.release()

    def take_changes(self) -> int:
        """Returns how many caps others changed since the last call."""
        changes, self._changes = self._changes, 0
        return changes

    def _look(self, gpu: Gpu) -> None:
        """Takes a cap that is not the one we set for what was found; :attr:`_writing` is held."""
        note, now = self._held[gpu.uuid], self.in_force_mw(gpu)
        if note.explains(now):
            return
        _LOG.warning(
            "GPU %s: an operator or another program changed its cap from %g W to %g W; that is "
            "what is put back at the end, and no cap above it is set",
            gpu.name, note.set_mw[-1] * 1e-3, now * 1e-3,
        )  # fmt: skip
        note.adopt(now)
        self._notes.write(gpu.uuid, note)
        self._changes += 1

    def restore(self, gpu: Gpu, found_mw: int) -> None:
        """Puts a cap back as its note tells, which knows of changes since, or as it was found.

        A cap in force that is not ours stays.
        """
        noted = self._notes.read(gpu.uuid) or self._held.get(gpu.uuid)  # its folder may be gone
        note = noted or CapNote(found_mw)
        now = self.in_force_mw(gpu)
        if note.set_mw and not note.explains(now):
            _LOG.warning(
                "GPU %s: its cap of %g W was set by others; it stays", gpu.name, now * 1e-3
            )
            return
        self._write(gpu, note.found_mw)

    def forget(self, gpu: Gpu) -> None:
        """Forgets a GPU that was put back."""
        self._notes.clear(gpu.uuid)

    def _write(self, gpu: Gpu, milliwatts: int) -> None:
        with nvml_errors(self._nvml, f"power cap {milliwatts * 1e-3:g} W on GPU {gpu.name}"):
            self._nvml.nvmlDeviceSetPowerManagementLimit(gpu.handle, milliwatts)
