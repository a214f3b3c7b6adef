"""Caps and clocks set through Zeus' daemon, by a controller that may only read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_zeusd import FakeZeusd
from live_support import PATIENCE_S, FakeVllm, attach, live, wait_for

from envs import catalog
from envs.knobs import Knobs
from envs.live.devices import zeusd as module
from envs.live.devices.zeusd import Zeusd
from envs.live.errors import (
    DeviceLostError,
    DeviceNotFoundError,
    DevicePermissionError,
    DeviceRangeError,
)
from envs.live.guard import ROOT


@pytest.fixture
def zeusd(fake_gpus: Any) -> Iterator[FakeZeusd]:
    fake_gpus.set({"limit": 350_000}, {"limit": 380_000}, root=False)  # we may not set anything
    folder = Path(tempfile.mkdtemp(prefix="pals-", dir="/tmp"))  # a socket's path must be short
    daemon = FakeZeusd(folder / "zeusd.sock", fake_gpus.change, 2, (100_000, 400_000))
    yield daemon
    daemon.stop()
    shutil.rmtree(folder)


def opened(daemon: FakeZeusd, **settings: Any) -> Zeusd:
    device = Zeusd(socket=str(daemon.place), **settings)
    device.open(None)
    return device


def test_caps_are_set_by_the_daemon_and_put_back(zeusd: FakeZeusd, fake_gpus: Any) -> None:
    device = opened(zeusd, gpus=["1", "0"])
    assert device.read().cap_w == (380.0, 350.0)
    assert device.cap_found_w == 350.0
    assert zeusd.calls == []
    found = device.take_control()
    device.set_power_cap(200.0)
    assert fake_gpus.limits_w == [200.0, 200.0]
    assert zeusd.calls[-1] == (
        "/gpu/set_power_limit", {"gpu_ids": "1", "power_limit_mw": "200000", "block": "true"}
    )  # fmt: skip
    fake_gpus.change(0, limit=180_000)
    device.set_power_cap(300.0)  # what others set since is a ceiling
    assert fake_gpus.limits_w == [180.0, 300.0]
    assert device.take_changes_by_others() == 1
    device.restore(found)
    assert fake_gpus.limits_w == [180.0, 380.0]
    assert device.facts["zeusd"] == str(zeusd.place)
    device.close()


def test_clocks_are_locked_and_freed(zeusd: FakeZeusd, fake_gpus: Any) -> None:
    device = opened(zeusd, lock_clocks=True)
    found = device.take_control()
    device.lock_clock(900.0)
    assert fake_gpus.state["gpus"][0]["locked"] == [0, 900]
    device.restore(found)
    assert fake_gpus.state["gpus"][0]["locked"] is None


def test_a_daemon_that_tells_no_places_counts_as_nvml_does(
    zeusd: FakeZeusd, fake_gpus: Any
) -> None:
    zeusd.discovery = {"gpu_ids": [0, 1], "cpus": [], "enabled_api_groups": ["gpu-control"]}
    device = opened(zeusd, gpus=["1"])
    found = device.take_control()
    device.set_power_cap(150.0)
    assert fake_gpus.limits_w == [350.0, 150.0]
    device.restore(found)
    zeusd.discovery["gpu_ids"] = [0]
    other = opened(zeusd, gpus=["1"])
    with pytest.raises(DeviceNotFoundError, match="no GPU 1"):
        other.take_control()


def test_what_the_daemon_refuses_is_named_before_anything_changes(
    zeusd: FakeZeusd, fake_gpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = opened(zeusd)
    zeusd.discovery["enabled_api_groups"] = ["gpu-read"]
    with pytest.raises(DevicePermissionError, match=r"gpu-control; server\.control=false"):
        device.take_control()
    zeusd.discovery["enabled_api_groups"] = ["gpu-control"]
    zeusd.token = "secret-token-1"
    with pytest.raises(DevicePermissionError, match="ZEUSD_TOKEN") as refused:
        device.take_control()
    assert "secret" not in str(refused.value)
    assert fake_gpus.limits_w == [350.0, 380.0]
    monkeypatch.setenv("ZEUSD_TOKEN", zeusd.token)
    found = device.take_control()
    with pytest.raises(DeviceRangeError, match="an argument is invalid"):
        device.set_power_cap(20.0)
    device.restore(found)
    assert fake_gpus.limits_w == [350.0, 380.0]


def test_without_a_daemon_it_is_named(fake_gpus: Any, tmp_path: Path) -> None:
    device = Zeusd(socket=str(tmp_path / "none.sock"))
    device.open(None)  # reading needs none
    assert device.read().power_w == (260.0,)
    with pytest.raises(DeviceNotFoundError, match=r"none\.sock: no zeusd listens there"):
        device.take_control()


def test_a_daemon_that_is_started_again_is_waited_for(
    zeusd: FakeZeusd, fake_gpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = opened(zeusd)
    found = device.take_control()
    monkeypatch.setattr(module, "PATIENCE_S", PATIENCE_S)
    zeusd.stop()
    threading.Timer(0.5, zeusd.start).start()
    device.set_power_cap(150.0)
    assert fake_gpus.limits_w[0] == 150.0
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    zeusd.stop()
    with pytest.raises(DeviceLostError, match="zeusd is gone"):
        device.set_power_cap(200.0)
    zeusd.start()
    device.restore(found)
    assert fake_gpus.limits_w[0] == 350.0


def test_a_live_server_is_controlled_through_the_daemon(
    zeusd: FakeZeusd, fake_vllm: FakeVllm, fake_gpus: Any
) -> None:
    device = catalog.build("device", {"base": "zeusd", "socket": str(zeusd.place)})
    with live(attach(fake_vllm, device=device, batch_limit="off")) as server:
        server.reset(1)
        server.apply(Knobs(150.0, 8))
        wait_for(lambda: server.advance(0.25).power_cap_w == 150.0)
    assert fake_gpus.limits_w == [350.0, 380.0]


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from live_support import FakeVllm, attach
from envs.knobs import Knobs
from envs.live.devices.zeusd import Zeusd
from envs.live.server import LiveServer
from live_support import small_workload
vllm = FakeVllm.anywhere()
config = attach(vllm, device=Zeusd(), batch_limit="off")
server = LiveServer(config, small_workload())
server.reset(1)
server.apply(Knobs(150.0, 8))
while server.advance(0.25).power_cap_w != 150.0:
    pass
vllm.stop()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_guard_puts_back_through_the_daemon_when_a_controller_is_killed(
    zeusd: FakeZeusd, fake_gpus: Any
) -> None:
    path = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(Path(__file__).parent)],
        env=os.environ | {"PYTHONPATH": path, "ZEUSD_SOCK_PATH": str(zeusd.place)},
        check=False,
        timeout=10 * PATIENCE_S,
    )
    assert done.returncode == -9
    asked = [int(query["power_limit_mw"]) for _, query in zeusd.calls]
    assert 150_000 in asked
    wait_for(lambda: fake_gpus.limits_w == [350.0, 380.0])
