"""The cap helper's leases in this process: what is open, held and closed."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_support import PATIENCE_S

from envs.errors import DeviceError
from envs.live.cap_helper import service
from envs.live.cap_helper.leases import Leases
from envs.live.cap_helper.protocol import Refused
from envs.live.cap_helper.service import CapHelper
from envs.live.devices.helped_nvml import HelpedNvml
from envs.live.devices.nvml import Nvml
from envs.live.locks import Locks

UUID = "GPU-00000000"
OWNER = "process 1 of user 0"


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pals-", dir="/tmp"))  # a socket's path must be short
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def open_devices(monkeypatch: pytest.MonkeyPatch) -> list[Nvml]:
    """Returns the devices that are open, as they come and go."""
    opened: list[Nvml] = []
    really_open, really_close = Nvml.open, Nvml.close

    def open_(self: Nvml, server_pid: int | None) -> None:
        opened.append(self)
        really_open(self, server_pid)

    def close(self: Nvml) -> None:
        opened.remove(self)
        really_close(self)

    monkeypatch.setattr(Nvml, "open", open_)
    monkeypatch.setattr(Nvml, "close", close)
    return opened


def test_a_connection_that_holds_a_lease_may_be_silent(
    fake_gpus: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "socket"
    helper = CapHelper(path, frozenset({os.geteuid()}), Leases(["0"], None, None, lease_s=600.0))
    thread = threading.Thread(target=helper.run)
    thread.start()
    try:
        device = HelpedNvml(socket=str(path))
        device.open(None)
        device.take_control()
        device.set_power_cap(150.0)
        monkeypatch.setattr(service, "SILENT_S", 0.2)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as idle:
            idle.connect(str(path))
            idle.settimeout(PATIENCE_S)
            assert idle.recv(1) == b""  # it holds nothing, and is closed
        time.sleep(1.2)
        assert fake_gpus.limits_w == [150.0]
        device.close()
    finally:
        helper.stop()
        thread.join(PATIENCE_S)
    assert fake_gpus.limits_w == [400.0]


def test_a_gpu_that_another_controller_holds_is_left_closed_at_the_start(
    fake_gpus: Any, open_devices: list[Nvml]
) -> None:
    left = Nvml()
    left.open(None)
    left.take_control()  # leaves a note, as a helper that was killed does
    left.close()
    locks = Locks([UUID])
    Leases(["0"], None, None, lease_s=30.0)
    assert open_devices == []
    locks.close()


def test_what_fails_while_a_lease_begins_leaves_neither_lock_nor_device(
    fake_gpus: Any, open_devices: list[Nvml], monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = Leases(["0"], None, None, lease_s=30.0)
    with monkeypatch.context() as broken:
        broken.setattr(Nvml, "take_control", lambda self: _fail())
        with pytest.raises(Refused, match="gone"):
            leases.cap((UUID,), None, "mine", OWNER, 1)
    assert open_devices == []
    opened_before = leases._opened

    def opened_once(gpus: tuple[str, ...]) -> Nvml:
        device = opened_before(gpus)
        monkeypatch.setattr(leases, "_opened", lambda gpus: _refuse())
        return device

    monkeypatch.setattr(leases, "_opened", opened_once)
    with pytest.raises(Refused, match="gone"):
        leases.cap((UUID,), None, "mine", OWNER, 1)
    assert open_devices == []
    Locks([UUID]).close()  # is free


def _fail() -> None:
    raise DeviceError("gone")


def _refuse() -> Nvml:
    raise Refused("device", "gone")
