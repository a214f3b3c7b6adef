"""A CPU that stands in for a GPU: the cap is a quota of CPU time on vLLM's worker.

The throttle is real and slows the server as a cap slows a GPU: above what the load needs it
does nothing. The watts are a convention. Where the machine has an energy counter (RAPL) power
is read from it; elsewhere it is modelled, and telemetry says so.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from typing_extensions import override

from envs.fields import Checked, OneOf, Range
from envs.live.devices.base import DeviceLimits, PowerDevice, Reading
from envs.live.devices.duty_cycle import DutyCycle
from envs.live.devices.processes import CpuTime, workers_of
from envs.live.devices.quota import CgroupV1, CgroupV2, Quota
from envs.live.devices.rapl import Rapl
from envs.live.errors import (
    DeviceLostError,
    DeviceNotFoundError,
    DeviceNotSupportedError,
    DevicePermissionError,
    DeviceRangeError,
)
from envs.quantities import Watts, WattsOrNone
from envs.telemetry import MEASURED, MODELLED

CGROUP_V1 = "/sys/fs/cgroup/cpu"
CGROUP_V2 = "/sys/fs/cgroup"
MECHANISMS = ("auto", "cgroup_v2", "cgroup_v1", "signals")
SHORTEST_WINDOW_S = 0.05


@dataclass(kw_only=True)
class ThrottledCpu(Checked, PowerDevice):
    """CPU time of vLLM's worker, expressed in watts.

    A cap of ``W`` leaves the worker ``(W - idle_w) / (max_w - idle_w)`` of its cores, and
    modelled power is ``idle_w + (max_w - idle_w) * utilisation``.

    Attributes:
        idle_w: Power while nothing runs.
        max_w: Power while all cores of the worker run; the highest cap.
        cap_min_w: Lowest cap.
        cores: Cores the worker may use without a cap.
        mechanism: ``cgroup_v2``, ``cgroup_v1``, ``signals``, or ``auto``: the first that works.
        use_rapl: Read power from the machine's energy counter where there is one. It counts
            everything the machine does, not the worker alone.
    """

    config_key: ClassVar[str] = "device"

    idle_w: WattsOrNone = 60.0
    max_w: Watts = 400.0
    cap_min_w: Watts = 100.0
    cores: Annotated[float, Range(above=0.0, most=65_536.0)] = 1.0
    mechanism: Annotated[str, OneOf(*MECHANISMS)] = "auto"
    use_rapl: bool = True

    opens_to_restore = False
    follows_process = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.idle_w < self.cap_min_w, "idle_w", "be below device.cap_min_w")
        self.require(self.cap_min_w < self.max_w, "cap_min_w", "be below device.max_w")
        self.power_source = MODELLED
        self._quota: Quota | None = None
        self._cpu: CpuTime | None = None
        self._rapl: Rapl | None = None
        self._pids: list[int] = []
        self._cap_w = self.max_w
        self._energy_j = 0.0
        self._cpu_s = 0.0
        self._rapl_j = 0.0
        self._time_s: float | None = None
        self._lock = threading.Lock()
        self._window: list[tuple[float, float]] = []

    @override
    def open(self, server_pid: int | None) -> None:
        if server_pid is None:
            raise DeviceNotFoundError(
                "device=throttled_cpu needs the server's process: launch the server, or set "
                "server.server_pid for one that runs already"
            )
        self._pids = workers_of(server_pid)
        self._cpu = CpuTime(self._pids)
        self._rapl = Rapl.find() if self.use_rapl else None
        self.power_source = MODELLED if self._rapl is None else MEASURED
        self._cap_w = self.max_w
        self._cpu_s = self._cpu.seconds()
        self._rapl_j = 0.0
        now = time.monotonic()
        if self._time_s is not None:  # between two workers the machine idled
            self._energy_j += self.idle_w * (now - self._time_s)
        self._time_s = now
        self._window = [(self._time_s, self._energy_j)]

    @property
    @override
    def num_gpus(self) -> int:
        return 1

    @property
    @override
    def keys(self) -> list[str]:
        return [f"cpu-worker-{pid}" for pid in self._pids]

    @property
    @override
    def limits(self) -> DeviceLimits:
        clock = _clock_mhz()
        return DeviceLimits(self.cap_min_w, self.max_w, clock, clock)

    @property
    @override
    def cap_found_w(self) -> float:
        return self.max_w  # nobody else caps a process by watts

    @override
    def read(self) -> Reading:
        with self._lock:
            try:
                return self._read(time.monotonic())
            except OSError as error:
                raise DeviceLostError(f"the worker's control group is gone ({error})") from error

    def _read(self, now: float) -> Reading:
        self._count(now)
        while len(self._window) > 1 and now - self._window[1][0] >= SHORTEST_WINDOW_S:
            self._window.pop(0)
        since, before = self._window[0]
        power = (self._energy_j - before) / (now - since) if now > since else self.idle_w
        self._window.append((now, self._energy_j))
        bound = 0.0 if self._quota is None else self._quota.bound_s()
        return Reading(
            time_s=now,
            power_w=(power,),
            energy_j=(self._energy_j,),
            sm_clock_mhz=(_clock_mhz(),),
            cap_w=(self._cap_w,),
            cap_bound_s=(bound,),
            cap_binds=(bound > 0.0,),
        )

    def _count(self, now: float) -> None:
        """Adds up the energy since the last look."""
        assert self._cpu is not None
        assert self._time_s is not None
        cpu_s = self._cpu.seconds()
        if self._rapl is not None:
            rapl_j = self._rapl.energy_j()
            self._energy_j += rapl_j - self._rapl_j
            self._rapl_j = rapl_j
        else:
            busy = (cpu_s - self._cpu_s) / self.cores
            self._energy_j += self.idle_w * (now - self._time_s)
            self._energy_j += (self.max_w - self.idle_w) * busy
        self._cpu_s = cpu_s
        self._time_s = now

    @override
    def set_power_cap(self, watts: float) -> None:
        if not self.cap_min_w <= watts <= self.max_w:
            raise DeviceRangeError(
                f"cap {watts:g} W lies outside {self.cap_min_w:g}..{self.max_w:g} W"
            )
        fraction = (watts - self.idle_w) / (self.max_w - self.idle_w)
        if self._quota is None:
            raise DevicePermissionError("device: take_control() comes before set_power_cap()")
        with self._lock:
            try:
                self._quota.set(None if fraction >= 1.0 else fraction * self.cores)
            except OSError as error:
                raise DeviceLostError(f"the worker's control group is gone ({error})") from error
            self._cap_w = watts

    def _attach(self) -> Quota:
        choices: list[Quota] = [
            CgroupV2(Path(CGROUP_V2)),
            CgroupV1(Path(CGROUP_V1)),
            DutyCycle(),
        ]
        refused = []
        for quota in choices:
            if self.mechanism in ("auto", quota.name):
                try:
                    quota.attach(self._pids)
                except (DevicePermissionError, FileNotFoundError) as error:
                    refused.append(str(error))
                except BaseException:  # a signal that ends us leaves no group behind
                    quota.release(quota.state())
                    raise
                else:
                    return quota
        raise DevicePermissionError("; ".join(refused))

    @override
    def lock_clock(self, mhz: float | None) -> None:
        if mhz is not None:
            raise DeviceNotSupportedError("device=throttled_cpu has no clock to lock")

    @override
    def take_control(self) -> dict[str, Any]:
        if self._quota is None:
            self._quota = self._attach()
        return self._quota.state()

    @override
    def restore(self, found: dict[str, Any]) -> None:
        with self._lock:
            quota = self._quota or _quota_named(found)
            quota.release(found)
            self._quota = None
        self._cap_w = self.max_w

    @override
    def told(self, found: dict[str, Any]) -> str:
        where = found.get("group", "stopped and continued by signals")
        return (
            f"CPU time of processes {', '.join(found['starts'])}, found without a quota ({where})"
        )

    @override
    def close(self) -> None:
        self._cpu = None
        self._pids = []


def _quota_named(found: dict[str, Any]) -> Quota:
    if found["mechanism"] == "signals":
        return DutyCycle()
    root = Path(found["root"])
    return CgroupV1(root) if found["mechanism"] == "cgroup_v1" else CgroupV2(root)


def _clock_mhz() -> float:
    """Returns the mean clock of the CPU's cores as the kernel tells it."""
    clocks = [
        float(line.rpartition(":")[2])
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("cpu MHz")
    ]
    return sum(clocks) / len(clocks) if clocks else 0.0
