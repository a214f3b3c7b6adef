"""NVIDIA GPUs through NVML (the package ``nvidia-ml-py``, imported as ``pynvml``).

Setting a cap or a clock needs root; reading does not. NVML counts in milliwatts and
millijoules; this module speaks watts and joules.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from typing_extensions import override

from envs.errors import ConfigurationError, DeviceError
from envs.fields import Checked
from envs.live.devices.base import DeviceLimits, PowerDevice, Reading
from envs.live.devices.nvml_caps import Gpu, NvmlCaps
from envs.live.devices.nvml_library import gpu_facts, library, nvml_errors
from envs.live.errors import DeviceNotSupportedError, DevicePermissionError
from envs.telemetry import MEASURED


@dataclass(kw_only=True)
class Nvml(Checked, PowerDevice):
    """The NVIDIA GPUs that one server runs on.

    Attributes:
        gpus: NVML indices (those of ``nvidia-smi``) or UUIDs. ``CUDA_VISIBLE_DEVICES`` does
            not renumber them.
        lock_clocks: Whether the SM clock may be locked. NVML cannot tell whether another program
            locked it, so putting it back frees it; leave this off where clocks are locked.
    """

    config_key: ClassVar[str] = "device"

    gpus: list[str] = field(default_factory=lambda: ["0"])
    lock_clocks: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.gpus = [str(gpu) for gpu in self.gpus]
        if not self.gpus or len(set(self.gpus)) != len(self.gpus):
            raise ConfigurationError("device.gpus: name at least one GPU, each once")
        self.power_source = MEASURED
        self._nvml: Any = None
        self._gpus: list[Gpu] = []
        self._caps: NvmlCaps | None = None
        self._has_instant = True
        self._has_energy = True

    @override
    def open(self, server_pid: int | None) -> None:
        self._nvml = library()
        with nvml_errors(self._nvml, "opening"):
            self._nvml.nvmlInit()
        for name in self.gpus:
            with nvml_errors(self._nvml, f"GPU {name}"):
                handle = self._find(name)
                self._gpus.append(Gpu(name, handle, self._nvml.nvmlDeviceGetUUID(handle)))
        self._caps = NvmlCaps(self._nvml)

    def _find(self, gpu: str) -> Any:
        if gpu.isdigit():
            return self._nvml.nvmlDeviceGetHandleByIndex(int(gpu))
        return self._nvml.nvmlDeviceGetHandleByUUID(gpu)

    @property
    def _opened(self) -> NvmlCaps:
        if self._caps is None:
            raise DevicePermissionError("device: open() comes before anything is set")
        return self._caps

    @property
    @override
    def num_gpus(self) -> int:
        return len(self.gpus)

    @property
    @override
    def keys(self) -> list[str]:
        return [gpu.uuid for gpu in self._gpus]

    @property
    def names(self) -> list[str]:
        """Product names of the GPUs."""
        return [self._nvml.nvmlDeviceGetName(gpu.handle) for gpu in self._gpus]

    @property
    @override
    def limits(self) -> DeviceLimits:
        lows, highs, clocks = [], [], []
        for gpu in self._gpus:
            with nvml_errors(self._nvml, f"limits of GPU {gpu.name}"):
                low, high = self._nvml.nvmlDeviceGetPowerManagementLimitConstraints(gpu.handle)
                lows.append(low * 1e-3)
                highs.append(high * 1e-3)
                clock = self._nvml.nvmlDeviceGetMaxClockInfo(gpu.handle, self._nvml.NVML_CLOCK_SM)
                clocks.append(float(clock))
        # Locking below about a tenth of the highest clock is refused by every GPU known.
        return DeviceLimits(max(lows), min(highs), min(clocks) * 0.1, min(clocks))

    @property
    @override
    def cap_found_w(self) -> float:
        return min(self._opened.found(gpu).found_mw for gpu in self._gpus) * 1e-3

    @property
    @override
    def facts(self) -> dict[str, Any]:
        told = gpu_facts(self._nvml, {gpu.uuid: gpu.handle for gpu in self._gpus})
        for gpu in self._gpus:  # one look tells which readings there are
            with contextlib.suppress(self._nvml.NVMLError):
                self._power_mw(gpu.handle)
                self._energy_mj(gpu.handle)
        reading = "instant" if self._has_instant else "average of a second"
        return told | {"power_reading": reading, "energy_counter": self._has_energy}

    @override
    def cautions(self, facts: Mapping[str, Any]) -> list[str]:
        said = []
        for uuid, gpu in facts["gpus"].items():
            if gpu["persistence_mode"] == 0:
                said.append(
                    f"GPU {uuid}: persistence mode is off, so the driver may unload and forget its "
                    "cap (nvidia-smi -pm 1 turns it on)"
                )
            if len(pids := gpu["processes"]) > 1:
                said.append(
                    f"GPU {uuid}: {len(pids)} processes ({', '.join(map(str, pids))}) compute on "
                    "it; its power and energy are those of all of them"
                )
        return said

    @override
    def read(self) -> Reading:
        nvml = self._nvml
        power, energy, clock, cap, binds = [], [], [], [], []
        for gpu in self._gpus:
            handle = gpu.handle
            with nvml_errors(nvml, f"reading GPU {gpu.name}"):
                power.append(self._power_mw(handle) * 1e-3)
                energy.append(self._energy_mj(handle))
                clock.append(float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)))
                cap.append(nvml.nvmlDeviceGetEnforcedPowerLimit(handle) * 1e-3)
                reasons = nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
                binds.append(bool(reasons & nvml.nvmlClocksEventReasonSwPowerCap))
        self._opened.look_for_changes(self._gpus)
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
        self._opened.set(self._gpus, round(watts * 1e3))

    @override
    def take_changes_by_others(self) -> int:
        return self._opened.take_changes()

    @override
    def lock_clock(self, mhz: float | None) -> None:
        if not self.lock_clocks:
            if mhz is None:
                return
            raise DeviceNotSupportedError(
                "locking the SM clock is off; device.lock_clocks=true allows it"
            )
        for gpu in self._gpus:
            if mhz is not None:
                self._opened.note_locked_clock(gpu)
            with nvml_errors(self._nvml, f"clock of GPU {gpu.name}"):
                if mhz is None:
                    self._nvml.nvmlDeviceResetGpuLockedClocks(gpu.handle)
                else:
                    self._nvml.nvmlDeviceSetGpuLockedClocks(gpu.handle, 0, round(mhz))

    @override
    def take_control(self) -> dict[str, Any]:
        notes = {gpu.uuid: self._opened.take(gpu) for gpu in self._gpus}
        return {
            "power_cap_mw": {uuid: note.found_mw for uuid, note in notes.items()},
            "free_clocks": self.lock_clocks or any(note.clock_locked for note in notes.values()),
        }

    @override
    def restore(self, found: dict[str, Any]) -> None:
        problems: list[DeviceError] = []
        for gpu in self._gpus:
            try:
                self._opened.restore(gpu, found["power_cap_mw"][gpu.uuid])
                if found["free_clocks"]:
                    with nvml_errors(self._nvml, f"clock of GPU {gpu.name}"):
                        self._nvml.nvmlDeviceResetGpuLockedClocks(gpu.handle)
            except DeviceError as error:  # the other GPUs must still be put back
                problems.append(error)
            else:
                self._opened.forget(gpu)
        if problems:
            raise type(problems[0])("; ".join(map(str, problems)))

    @override
    def told(self, found: dict[str, Any]) -> str:
        caps = found["power_cap_mw"].items()
        clocks = ", clocks to be freed" if found["free_clocks"] else ""
        return (
            ", ".join(f"power cap of {uuid}, found {mw * 1e-3:g} W" for uuid, mw in caps) + clocks
        )

    @override
    def close(self) -> None:
        if self._nvml is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        self._nvml = self._caps = None
        self._gpus = []
