"""Limits the CPU time of processes: control groups v1 and v2."""

from __future__ import annotations

import contextlib
import math
import os
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from typing import Any

from typing_extensions import override

from envs.live.devices.processes import start_ticks
from envs.live.errors import DeviceLostError, DevicePermissionError

_PREFIX = "pals-gym-"
PERIOD_US = 10_000
LEAST_QUOTA_US = 1_000
"""The kernel refuses less than 1 ms a period."""


class Quota(ABC):
    """A ceiling on the CPU time of some processes."""

    name: str

    @abstractmethod
    def attach(self, pids: list[int]) -> None:
        """Puts the processes under the quota, which is unlimited at first."""

    @abstractmethod
    def set(self, cores: float | None) -> None:
        """Limits the processes together to ``cores`` CPU seconds a second; ``None``: no limit."""

    @abstractmethod
    def bound_s(self) -> float:
        """Returns the time, since :meth:`attach`, in which the limit held the processes back."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Returns what :meth:`release` needs to undo everything, as JSON values."""

    @abstractmethod
    def release(self, state: dict[str, Any]) -> None:
        """Undoes everything; harmless when done twice or when the processes are gone."""


def period_and_quota(cores: float) -> tuple[int, int]:
    """Returns period and quota in microseconds for a limit of ``cores``.

    The period is 10 ms, short against a scheduling step, and longer only where the quota
    would fall below what the kernel accepts.
    """
    period = max(PERIOD_US, math.ceil(LEAST_QUOTA_US / cores))
    return min(period, 1_000_000), max(LEAST_QUOTA_US, round(cores * period))


class _Cgroup(Quota):
    """What both versions of control groups share.

    Args:
        root: Where the hierarchy with the CPU controller is mounted.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.group = root
        self._homes: dict[int, str] = {}
        self._starts: dict[int, int] = {}
        self._bound_s = 0.0
        self._seen: float | None = None

    @abstractmethod
    def home(self, pid: int) -> str:
        """Returns the group a process is in, relative to the root."""

    @abstractmethod
    def period_s(self) -> float:
        """Returns the length of a period in seconds."""

    @abstractmethod
    def write(self, period_us: int, quota_us: int | None) -> None:
        """Writes period and quota."""

    @override
    def attach(self, pids: list[int]) -> None:
        for pid in pids:
            start = start_ticks(pid)
            if start is None:
                raise DeviceLostError(f"process {pid} ended")
            self._homes[pid] = _outside(self.home(pid))
            self._starts[pid] = start
        parent = self.root / self._homes[pids[0]].lstrip("/")
        self.group = self.parent(parent) / f"{_PREFIX}{pids[0]}"
        try:
            self.group.mkdir(exist_ok=True)
            self.set(None)
            for pid in pids:
                (self.group / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            self.release(self.state())
            raise DevicePermissionError(
                f"cannot use the control group {self.group}: {error.strerror}; run as root, "
                "have the group delegated, or set device.mechanism=signals"
            ) from error

    def parent(self, home: Path) -> Path:
        """Returns the group to make ours in."""
        return home

    @override
    def set(self, cores: float | None) -> None:
        self.bound_s()  # the periods so far had the old length
        if cores is None:
            self.write(PERIOD_US, None)
        else:
            self.write(*period_and_quota(cores))

    @override
    def bound_s(self) -> float:
        throttled = _field(self.group / "cpu.stat", "nr_throttled")
        if self._seen is not None:
            self._bound_s += (throttled - self._seen) * self.period_s()
        self._seen = throttled
        return self._bound_s

    @override
    def state(self) -> dict[str, Any]:
        return {
            "mechanism": self.name,
            "root": str(self.root),
            "group": str(self.group),
            "homes": {str(pid): home for pid, home in self._homes.items()},
            "starts": {str(pid): start for pid, start in self._starts.items()},
        }

    @override
    def release(self, state: dict[str, Any]) -> None:
        group = Path(state["group"])
        if not group.is_dir() or group == Path(state["root"]):
            return
        self.group = group
        with contextlib.suppress(OSError):
            self.set(None)
        for pid, home in state["homes"].items():
            if start_ticks(int(pid)) == state["starts"][pid]:
                with contextlib.suppress(OSError):
                    target = self.root / home.lstrip("/") / "cgroup.procs"
                    target.write_text(pid)
        with contextlib.suppress(OSError):
            os.rmdir(group)


def _outside(home: str) -> str:
    """Returns the group that a process was in before any controller of ours.

    A controller whose guard was killed as well leaves a process in its group; the next holder of
    the lock finds it there, and takes it home in the end.
    """
    path = PurePosixPath(home)
    while path.name.startswith(_PREFIX):
        path = path.parent
    return str(path)


class CgroupV1(_Cgroup):
    """The ``cpu`` controller of control groups v1."""

    name = "cgroup_v1"

    @override
    def home(self, pid: int) -> str:
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "cpu" in controllers.split(","):
                return path
        raise DevicePermissionError(f"process {pid} is in no group of the cpu controller")

    @override
    def write(self, period_us: int, quota_us: int | None) -> None:
        # Old quota and new period together may be refused, so the quota goes first.
        (self.group / "cpu.cfs_quota_us").write_text("-1")
        (self.group / "cpu.cfs_period_us").write_text(str(period_us))
        if quota_us is not None:
            (self.group / "cpu.cfs_quota_us").write_text(str(quota_us))

    @override
    def period_s(self) -> float:
        return int((self.group / "cpu.cfs_period_us").read_text()) * 1e-6


class CgroupV2(_Cgroup):
    """``cpu.max`` of control groups v2."""

    name = "cgroup_v2"

    @override
    def home(self, pid: int) -> str:
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                return line[3:]
        raise DevicePermissionError(f"process {pid} is in no group of version 2")

    @override
    def parent(self, home: Path) -> Path:
        # A group with processes of its own may not hand controllers on to groups inside.
        return home.parent if home != self.root else home

    @override
    def write(self, period_us: int, quota_us: int | None) -> None:
        quota = "max" if quota_us is None else str(quota_us)
        (self.group / "cpu.max").write_text(f"{quota} {period_us}")

    @override
    def period_s(self) -> float:
        return int((self.group / "cpu.max").read_text().split()[1]) * 1e-6


def _field(file: Path, name: str) -> float:
    for line in file.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return float(value)
    return 0.0
