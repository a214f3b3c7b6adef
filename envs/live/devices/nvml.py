"""NVIDIA GPUs through NVML (the package ``nvidia-ml-py``, imported as ``pynvml``).

Setting a cap or a clock needs root; reading does not. NVML counts in milliwatts and
millijoules; this module speaks watts and joules.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import override

from envs.errors import ConfigurationError, DeviceError
from envs.live.devices.base import DeviceLimits, PowerDevice, Reading
from envs.live.devices.cap_notes import CapNote, CapNotes
from envs.live.devices.nvml_library import gpu_facts, kind_of, library
from envs.live.errors import (
    DeviceNotSupportedError,
    DevicePermissionError,
)
from envs.telemetry import MEASURED

_LOG = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Nvml(PowerDevice):
    """The NVIDIA GPUs that one server runs on.

    Attributes:
        gpus: NVML indices (those of ``nvidia-smi``) or UUIDs. ``CUDA_VISIBLE_DEVICES`` does
            not renumber them.
        lock_clocks: Whether the SM clock may be locked. NVML cannot tell whether another program
            locked it, so putting it back frees it; leave this off where clocks are locked.
    """

    gpus: list[str] = field(default_factory=lambda: ["0"])
    lock_clocks: bool = False

    def __post_init__(self) -> None:
        self.gpus = [str(gpu) for gpu in self.gpus]
        if not self.gpus or len(set(self.gpus)) != len(self.gpus):
            raise ConfigurationError("device.gpus: name at least one GPU, each once")
        self.power_source = MEASURED
        self._nvml: Any = None
        self._handles: list[Any] = []
        self._uuids: list[str] = []
        self._held: dict[str, CapNote] = {}
        self._has_instant = True
        self._has_energy = True
        self._notes = CapNotes()

    @override
    def open(self, server_pid: int | None) -> None:
        self._nvml = library()
        with self._errors("opening"):
            self._nvml.nvmlInit()
            for gpu in self.gpus:
                with self._errors(f"GPU {gpu}"):
                    self._handles.append(self._find(gpu))
                    self._uuids.append(self._nvml.nvmlDeviceGetUUID(self._handles[-1]))

    def _find(self, gpu: str) -> Any:
        if gpu.isdigit():
            return self._nvml.nvmlDeviceGetHandleByIndex(int(gpu))
        return self._nvml.nvmlDeviceGetHandleByUUID(gpu)

    @property
    @override
    def num_gpus(self) -> int:
        return len(self.gpus)

    @property
    @override
    def keys(self) -> list[str]:
        return list(self._uuids)

    @property
    def names(self) -> list[str]:
        """Product names of the GPUs."""
        return [self._nvml.nvmlDeviceGetName(handle) for handle in self._handles]

    @property
    @override
    def limits(self) -> DeviceLimits:
        lows, highs, clocks = [], [], []
        for gpu, handle, _ in self._each():
            with self._errors(f"limits of GPU {gpu}"):
                low, high = self._nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)
                lows.append(low * 1e-3)
                highs.append(high * 1e-3)
                clocks.append(
                    float(self._nvml.nvmlDeviceGetMaxClockInfo(handle, self._nvml.NVML_CLOCK_SM))
                )
        # Locking below about a tenth of the highest clock is refused by every GPU known.
        return DeviceLimits(max(lows), min(highs), min(clocks) * 0.1, min(clocks))

    @property
    @override
    def cap_found_w(self) -> float:
        return min(self._found(*gpu).found_mw for gpu in self._each()) * 1e-3

    def _found(self, gpu: str, handle: Any, uuid: str) -> CapNote:
        """Returns the cap that an operator set: the one in force, unless that is left of ours."""
        with self._errors(f"power cap of GPU {gpu}"):
            now = int(self._nvml.nvmlDeviceGetPowerManagementLimit(handle))
        note = self._notes.read(uuid)
        if note is None or not note.explains(now):
            return CapNote(now)
        if now != note.found_mw:
            _LOG.warning(
                "GPU %s: its cap of %g W was left by a controller that was killed with its guard; "
                "%g W, which that one had found, counts as found",
                gpu, now * 1e-3, note.found_mw * 1e-3,
            )  # fmt: skip
        return note

    @property
    @override
    def facts(self) -> dict[str, Any]:
        told = gpu_facts(self._nvml, dict(zip(self._uuids, self._handles, strict=True)))
        reading = "instant" if self._has_instant else "average of a second"
        return told | {"power_reading": reading, "energy_counter": self._has_energy}

    @override
    def read(self) -> Reading:
        nvml = self._nvml
        power, energy, clock, cap, binds = [], [], [], [], []
        for gpu, handle, _ in self._each():
            with self._errors(f"reading GPU {gpu}"):
                power.append(self._power_mw(handle) * 1e-3)
                energy.append(self._energy_mj(handle))
                clock.append(float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)))
                cap.append(nvml.nvmlDeviceGetEnforcedPowerLimit(handle) * 1e-3)
                reasons = nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
                binds.append(bool(reasons & nvml.nvmlClocksEventReasonSwPowerCap))
        counters = [value * 1e-3 for value in energy if value is not None]
        return Reading(
            time_s=time.monotonic(),
            power_w=tuple(power),
            energy_j=tuple(counters) if len(counters) == len(energy) else None,
            sm_clock_mhz=tuple(clock),
            cap_w=tuple(cap),
            cap_bound_s=None,
            cap_binds=tuple(binds),
        )

    def _power_mw(self, handle: Any) -> float:
        """Instantaneous power, or the driver's one-second mean where there is no better."""
        nvml = self._nvml
        if self._has_instant:
            with contextlib.suppress(nvml.NVMLError_NotSupported):
                field_id = nvml.NVML_FI_DEV_POWER_INSTANT
                value = nvml.nvmlDeviceGetFieldValues(handle, [field_id])[0]
                if value.nvmlReturn == nvml.NVML_SUCCESS:
                    return float(value.value.uiVal)
            self._has_instant = False
        return float(nvml.nvmlDeviceGetPowerUsage(handle))

    def _energy_mj(self, handle: Any) -> float | None:
        if not self._has_energy:
            return None
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except self._nvml.NVMLError_NotSupported:
            self._has_energy = False
            return None

    @override
    def set_power_cap(self, watts: float) -> None:
        milliwatts = round(watts * 1e3)
        if not self._held:
            raise DevicePermissionError("device: take_control() comes before set_power_cap()")
        for gpu, handle, uuid in self._each():
            note = self._held[uuid]
            note.set_mw = [*note.set_mw[-1:], milliwatts]
            self._notes.write(uuid, note)
            self._write_cap(gpu, handle, milliwatts)

    def _write_cap(self, gpu: str, handle: Any, milliwatts: int) -> None:
        with self._errors(f"power cap {milliwatts * 1e-3:g} W on GPU {gpu}"):
            self._nvml.nvmlDeviceSetPowerManagementLimit(handle, milliwatts)

    @override
    def lock_clock(self, mhz: float | None) -> None:
        if not self.lock_clocks:
            if mhz is None:
                return
            raise DeviceNotSupportedError(
                "locking the SM clock is off; device.lock_clocks=true allows it"
            )
        for gpu, handle, uuid in self._each():
            if mhz is not None and not self._held[uuid].clock_locked:
                self._held[uuid].clock_locked = True
                self._notes.write(uuid, self._held[uuid])
            with self._errors(f"clock of GPU {gpu}"):
                if mhz is None:
                    self._nvml.nvmlDeviceResetGpuLockedClocks(handle)
                else:
                    self._nvml.nvmlDeviceSetGpuLockedClocks(handle, 0, round(mhz))

    @override
    def take_control(self) -> dict[str, Any]:
        caps, free = {}, self.lock_clocks
        for gpu, handle, uuid in self._each():
            note = self._found(gpu, handle, uuid)
            with self._errors(f"power cap of GPU {gpu}"):
                now = self._nvml.nvmlDeviceGetPowerManagementLimit(handle)
            # Writing what holds already shows whether we may write at all.
            self._write_cap(gpu, handle, now)
            note.set_mw = [now]
            self._held[uuid] = note
            self._notes.write(uuid, note)
            caps[uuid] = note.found_mw
            free = free or note.clock_locked
        return {"power_cap_mw": caps, "free_clocks": free}

    @override
    def restore(self, found: dict[str, Any]) -> None:
        problems: list[DeviceError] = []
        for gpu, handle, uuid in self._each():
            try:
                self._write_cap(gpu, handle, found["power_cap_mw"][uuid])
                if found["free_clocks"]:
                    with self._errors(f"clock of GPU {gpu}"):
                        self._nvml.nvmlDeviceResetGpuLockedClocks(handle)
            except DeviceError as error:  # the other GPUs must still be put back
                problems.append(error)
            else:
                self._notes.clear(uuid)
        if problems:
            raise problems[0]

    @override
    def close(self) -> None:
        if self._nvml is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        self._nvml = None
        self._handles = []
        self._uuids = []
        self._held = {}

    def _each(self) -> Iterator[tuple[str, Any, str]]:
        """Yields name, handle and UUID of each GPU."""
        return iter(list(zip(self.gpus, self._handles, self._uuids, strict=True)))

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turns NVML's error codes into this project's types."""
        nvml = self._nvml
        try:
            yield
        except nvml.NVMLError as error:
            kind, advice = kind_of(nvml, error.value)
            raise kind(f"nvml, {what}: {error}; {advice}") from error
