"""A CPU quota as a power cap: felt by a real process, counted, and taken off again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_support import wait_for

from envs.errors import ConfigurationError
from envs.live.devices import throttled_cpu
from envs.live.devices.processes import CpuTime, descendants, start_ticks, title, workers_of
from envs.live.devices.quota import CgroupV2, period_and_quota
from envs.live.devices.rapl import Rapl
from envs.live.devices.throttled_cpu import CGROUP_V1, ThrottledCpu
from envs.live.errors import (
    DeviceLostError,
    DeviceNotFoundError,
    DeviceNotSupportedError,
    DeviceRangeError,
)

SPIN = "while True: pass"
HAS_V1 = os.access(f"{CGROUP_V1}/cpu.cfs_quota_us", os.F_OK) or (
    os.access(CGROUP_V1, os.W_OK) and os.path.exists(f"{CGROUP_V1}/cgroup.procs")
)
MECHANISMS = [
    "signals",
    pytest.param(
        "cgroup_v1", marks=pytest.mark.skipif(not HAS_V1, reason="no writable cgroup v1 cpu group")
    ),
]


class Server:
    """A process with a child called ``VLLM::Worker`` that burns CPU time."""

    def __init__(self) -> None:
        code = (
            "import subprocess, sys\n"
            f"command = ['VLLM::Worker', '-c', {SPIN!r}]\n"
            "child = subprocess.Popen(command, executable=sys.executable)\n"
            "print(child.pid, flush=True)\nchild.wait()\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.worker = int(self.process.stdout.readline())

    def wait_ready(self) -> None:
        """The kernel tells of a new program a moment before it shows its name."""
        wait_for(lambda: title(self.worker).startswith("VLLM::Worker"))

    def stop(self) -> None:
        for pid in (self.worker, self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    try:
        running.wait_ready()
        yield running
    finally:
        running.stop()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def fraction(pid: int, seconds: float = 0.6) -> float:
    """Fraction of a core that a process uses."""
    cpu = CpuTime([pid])
    before, began = cpu.seconds(), time.monotonic()
    time.sleep(seconds)
    return (cpu.seconds() - before) / (time.monotonic() - began)


@pytest.fixture
def rival() -> Iterator[int]:
    """A process that burns CPU time as a worker does, and has no quota."""
    with subprocess.Popen([sys.executable, "-c", SPIN]) as process:
        yield process.pid
        process.kill()


def runs_freely(worker: int, rival: int) -> bool:
    """Whether a worker gets at least half of what a rival gets, for a while."""
    own, others = CpuTime([worker]), CpuTime([rival])
    before_s, others_before_s = own.seconds(), others.seconds()
    time.sleep(0.5)
    own_s = own.seconds() - before_s
    return own_s > 0.0 and own_s > 0.5 * (others.seconds() - others_before_s)


def opened(server: Server, **settings: Any) -> ThrottledCpu:
    device = ThrottledCpu(use_rapl=False, **settings)
    device.open(server.process.pid)
    return device


# The machine may be busy with other things, which hold up the worker and the thread that stops it.
# So the quota is far below a fair fraction of a core, and what is fair is told by a rival.


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_cap_is_felt_and_taken_off(server: Server, rival: int, mechanism: str) -> None:
    device = opened(server, mechanism=mechanism, idle_w=95.0)
    found = device.take_control()
    device.set_power_cap(100.0)  # 1.6 % of the way from 95 to 400 W
    wait_for(lambda: fraction(server.worker) < 0.05)
    device.restore(found)
    device.close()
    wait_for(lambda: runs_freely(server.worker, rival))


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_another_process_can_take_the_cap_off(server: Server, rival: int, mechanism: str) -> None:
    device = opened(server, mechanism=mechanism, idle_w=95.0)
    found = device.take_control()
    device.set_power_cap(100.0)
    if mechanism == "signals":
        device._quota._end.set()  # type: ignore[union-attr]
        device._quota._thread.join()  # type: ignore[union-attr]
        os.kill(server.worker, signal.SIGSTOP)
    ThrottledCpu(mechanism=mechanism).restore(found)
    wait_for(lambda: runs_freely(server.worker, rival))
    assert not list(Path(CGROUP_V1).glob(f"pals-gym-{server.worker}"))


@pytest.mark.long  # it asks for times that a busy machine cannot keep
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_power_follows_the_cpu_time_and_says_that_it_is_modelled(
    server: Server, mechanism: str
) -> None:
    device = opened(server, mechanism=mechanism)
    found = device.take_control()
    device.set_power_cap(100.0)
    cpu = CpuTime([server.worker])
    first, cpu_first = device.read(), cpu.seconds()
    time.sleep(0.8)
    last, cpu_last = device.read(), cpu.seconds()
    assert first.energy_j is not None
    assert last.energy_j is not None
    seconds = last.time_s - first.time_s
    mean_w = (last.energy_j[0] - first.energy_j[0]) / seconds
    assert mean_w == pytest.approx(60.0 + 340.0 * (cpu_last - cpu_first) / seconds, rel=0.1)
    assert 60.0 < mean_w < 115.0
    assert device.power_source == "modelled"
    assert first.cap_bound_s is not None
    assert last.cap_bound_s is not None
    assert (last.cap_bound_s[0] - first.cap_bound_s[0]) / seconds > 0.3
    device.set_power_cap(400.0)
    free = device.read()
    time.sleep(0.2)
    assert device.read().cap_bound_s == pytest.approx(free.cap_bound_s, abs=0.05)
    device.restore(found)


def test_a_stopped_worker_draws_idle_power(server: Server) -> None:
    os.kill(server.worker, signal.SIGSTOP)
    wait_for(lambda: state(server.worker) == "T")
    device = opened(server)
    device.read()
    time.sleep(0.2)
    assert device.read().power_w[0] == pytest.approx(60.0, abs=3.0)


def test_caps_out_of_range_and_clocks_are_refused(server: Server) -> None:
    device = opened(server, mechanism="signals")
    device.take_control()
    for watts in (99.0, 401.0):
        with pytest.raises(DeviceRangeError, match=r"100\.\.400 W"):
            device.set_power_cap(watts)
    device.lock_clock(None)
    with pytest.raises(DeviceNotSupportedError):
        device.lock_clock(1000.0)


def test_a_worker_that_ended_is_a_lost_device(server: Server) -> None:
    device = opened(server)
    os.kill(server.worker, signal.SIGKILL)
    wait_for(lambda: start_ticks(server.worker) is None)
    wait_for(lambda: not Path(f"/proc/{server.worker}").exists())
    with pytest.raises(DeviceLostError, match=str(server.worker)):
        device.read()


def test_the_worker_is_found_among_the_servers_children(server: Server) -> None:
    assert workers_of(server.process.pid) == [server.worker]
    assert descendants(server.process.pid) == [server.worker]
    with pytest.raises(DeviceNotFoundError, match="server_pid"):
        workers_of(server.worker)
    with pytest.raises(DeviceNotFoundError, match="server_pid"):
        ThrottledCpu().open(None)


def test_version_2_of_control_groups_is_written_and_left_clean(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file tree like the kernel's; the kernel's own part is not there on every machine."""
    (tmp_path / "slice" / "service").mkdir(parents=True)
    home = tmp_path / "slice" / "service"
    (home / "cgroup.procs").write_text("")
    monkeypatch.setattr(CgroupV2, "home", lambda self, pid: "/slice/service")
    quota = CgroupV2(tmp_path)
    group = tmp_path / "slice" / f"pals-gym-{server.worker}"
    group.mkdir()
    (group / "cpu.stat").write_text("usage_usec 1\nnr_periods 100\nnr_throttled 0\n")
    quota.attach([server.worker])
    assert (group / "cpu.max").read_text() == "max 10000"
    assert (group / "cgroup.procs").read_text() == str(server.worker)
    quota.set(0.25)
    assert (group / "cpu.max").read_text() == "2500 10000"
    (group / "cpu.stat").write_text("usage_usec 1\nnr_periods 200\nnr_throttled 40\n")
    assert quota.bound_s() == pytest.approx(0.4)
    CgroupV2(tmp_path).release(quota.state())
    assert (group / "cpu.max").read_text() == "max 10000"
    assert (home / "cgroup.procs").read_text() == str(server.worker)


@pytest.mark.skipif(not HAS_V1, reason="no writable cgroup v1 cpu group")
def test_a_group_left_behind_is_used_again_and_removed(server: Server) -> None:
    """As after a SIGKILL of controller and guard at once."""
    opened(server, mechanism="cgroup_v1").take_control()
    group = Path(CGROUP_V1) / f"pals-gym-{server.worker}"
    assert group.is_dir()
    device = opened(server, mechanism="cgroup_v1")
    found = device.take_control()
    device.set_power_cap(100.0)
    device.restore(found)
    assert not group.exists()
    device.close()


@pytest.mark.parametrize("cores", [0.001, 0.05, 0.1, 0.5, 2.0])
def test_periods_are_short_and_quotas_accepted(cores: float) -> None:
    period, quota = period_and_quota(cores)
    assert 10_000 <= period <= 1_000_000
    assert quota >= 1_000
    assert quota / period == pytest.approx(cores, rel=0.01)


def rapl_tree(root: Path) -> Path:
    for name in ("intel-rapl:0", "intel-rapl:0:0", "intel-rapl:1"):
        (root / name).mkdir()
        (root / name / "energy_uj").write_text("900000")
        (root / name / "max_energy_range_uj").write_text("1000000")
    return root


def test_rapl_adds_packages_and_survives_wrapping(tmp_path: Path) -> None:
    rapl = Rapl(rapl_tree(tmp_path))
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("100000")
    (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text("950000")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("950000")
    assert rapl.energy_j() == pytest.approx(0.2 + 0.05)
    assert Rapl.find(tmp_path / "nowhere") is None


def test_with_rapl_power_is_measured(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rapl = Rapl(rapl_tree(tmp_path))
    monkeypatch.setattr(throttled_cpu.Rapl, "find", lambda: rapl)
    device = ThrottledCpu()
    device.open(server.process.pid)
    assert device.power_source == "measured"
    before = device.read().energy_j
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("1000000")
    assert before is not None
    assert device.read().energy_j == pytest.approx((before[0] + 0.1,))


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"idle_w": 100.0}, "idle_w"), ({"max_w": 50.0}, "max_w"), ({"cores": 0.0}, "cores"),
     ({"mechanism": "magic"}, "mechanism")],
)  # fmt: skip
def test_impossible_settings_are_named(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError, match=key):
        ThrottledCpu(**settings)
