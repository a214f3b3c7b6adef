"""NVML, over a fake library with the real one's functions and error codes."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from envs.errors import ConfigurationError
from envs.live.devices.nvml import Nvml
from envs.live.errors import (
    DeviceLostError,
    DeviceNotFoundError,
    DeviceNotSupportedError,
    DevicePermissionError,
    DeviceRangeError,
)


def opened(**settings: Any) -> Nvml:
    device = Nvml(**settings)
    device.open(None)
    return device


def test_reads_every_gpu_in_si_units(fake_gpus: Any) -> None:
    fake_gpus.set({}, {"instant": 120_000, "reasons": 1, "energy": 5_000, "clock": 300})
    device = opened(gpus=["0", "GPU-00000001"])
    reading = device.read()
    assert reading.power_w == (260.0, 120.0)
    assert reading.energy_j == (1000.0, 5.0)
    assert reading.sm_clock_mhz == (1200.0, 300.0)
    assert reading.cap_w == (400.0, 400.0)
    assert reading.cap_binds == (True, False)
    assert device.power_source == "measured"
    assert device.num_gpus == 2
    assert device.keys == ["GPU-00000000", "GPU-00000001"]
    assert device.names == ["NVIDIA Fake 400W"] * 2


def test_falls_back_where_a_reading_is_missing(fake_gpus: Any) -> None:
    fake_gpus.set({"no_instant": True, "no_energy": True})
    reading = opened().read()
    assert reading.power_w == (250.0,)
    assert reading.energy_j is None


def test_limits_are_what_all_gpus_accept(fake_gpus: Any) -> None:
    fake_gpus.set({}, {"min": 150_000, "max": 350_000, "max_clock": 1200})
    limits = opened(gpus=["0", "1"]).limits
    assert (limits.cap_min_w, limits.cap_max_w) == (150.0, 350.0)
    assert limits.clock_max_mhz == 1200.0


def test_sets_and_restores_each_gpus_own_cap(fake_gpus: Any) -> None:
    fake_gpus.set({"limit": 300_000}, {"limit": 350_000})
    device = opened(gpus=["0", "1"])
    found = device.take_control()
    device.set_power_cap(200.0)
    assert fake_gpus.limits_w == [200.0, 200.0]
    device.restore(found)
    assert fake_gpus.limits_w == [300.0, 350.0]


def test_gpus_can_be_read_while_control_of_them_is_being_taken(fake_gpus: Any) -> None:
    fake_gpus.set({}, {})
    device = opened(gpus=["0", "1"])
    first, second = device._gpus
    device._opened.take(first)
    assert device.read().cap_w == (400.0, 400.0)
    device._opened.take(second)
    fake_gpus.change(1, limit=300_000)
    device.read()
    assert device._opened.take_changes() == 1


def test_locks_and_frees_the_clock_only_when_allowed(fake_gpus: Any) -> None:
    device = opened(lock_clocks=True)
    found = device.take_control()
    device.lock_clock(900.0)
    assert fake_gpus.state["gpus"][0]["locked"] == [0, 900]
    device.restore(found)
    assert fake_gpus.state["gpus"][0]["locked"] is None
    careful = opened()
    with pytest.raises(DeviceNotSupportedError, match="lock_clocks"):
        careful.lock_clock(900.0)
    careful.restore(careful.take_control())
    assert [entry[1] for entry in fake_gpus.state["log"]].count("unlock") == 1


def test_without_root_nothing_is_taken(fake_gpus: Any) -> None:
    fake_gpus.set({}, root=False)
    device = opened()
    assert device.read().power_w == (260.0,)
    with pytest.raises(DevicePermissionError, match="root"):
        device.take_control()


def test_each_error_code_has_its_type(fake_gpus: Any) -> None:
    device = opened()
    device.take_control()
    with pytest.raises(DeviceRangeError, match="500 W on GPU 0"):
        device.set_power_cap(500.0)
    fake_gpus.change(0, mig=True)
    with pytest.raises(DeviceNotSupportedError, match="MIG"):
        device.set_power_cap(200.0)
    fake_gpus.change(0, lost=True)
    with pytest.raises(DeviceLostError, match="GPU 0"):
        device.read()


def test_no_driver_and_no_such_gpu(fake_gpus: Any) -> None:
    with pytest.raises(DeviceRangeError, match="GPU 7"):
        opened(gpus=["7"])
    with pytest.raises(DeviceNotFoundError, match="nvidia-smi"):
        opened(gpus=["GPU-unknown"])
    fake_gpus.set({}, driver=False)
    with pytest.raises(DeviceNotFoundError, match="driver"):
        opened()


def test_without_a_library_the_driver_is_asked_for(
    fake_gpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_gpus.module, "nvmlLib", None)

    def no_library(_: str) -> None:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    monkeypatch.setattr(fake_gpus.module, "CDLL", no_library)
    with pytest.raises(DeviceNotFoundError, match="container"):
        opened()


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(DeviceNotFoundError, match="nvidia-ml-py"):
        opened()


def test_one_gpu_lost_does_not_keep_the_others_from_being_restored(fake_gpus: Any) -> None:
    fake_gpus.set({}, {})
    device = opened(gpus=["0", "1"])
    found = device.take_control()
    device.set_power_cap(150.0)
    fake_gpus.change(0, lost=True)
    with pytest.raises(DeviceLostError):
        device.restore(found)
    assert fake_gpus.limits_w == [150.0, 400.0]


@pytest.mark.parametrize("gpus", [[], ["0", "0"]])
def test_gpus_must_be_named_once(gpus: list[str]) -> None:
    with pytest.raises(ConfigurationError, match=r"device\.gpus"):
        Nvml(gpus=gpus)


def test_what_is_known_of_the_gpus_is_told(fake_gpus: Any) -> None:
    fake_gpus.set({"limit": 250_000, "processes": [17]}, {"no_instant": True, "no_energy": True})
    first, second = opened(gpus=["0"]), opened(gpus=["1"])
    assert first.facts == {
        "driver": "610.01",
        "power_reading": "instant",
        "energy_counter": True,
        "gpus": {
            "GPU-00000000": {
                "name": "NVIDIA Fake 400W",
                "power_limit_w": 250.0,
                "default_limit_w": 400.0,
                "persistence_mode": 1,
                "processes": [17],
            }
        },
    }
    assert second.facts["power_reading"] == "average of a second"
    assert not second.facts["energy_counter"]
    assert first.cautions(first.facts) == []


def test_what_an_operator_should_know_of_the_gpus_is_said(fake_gpus: Any) -> None:
    fake_gpus.set({"persistence": 0}, {"processes": [17, 18]})
    device = opened(gpus=["0", "1"])
    forgetful, shared = device.cautions(device.facts)
    assert "GPU-00000000: persistence mode is off" in forgetful
    assert "nvidia-smi -pm 1" in forgetful
    assert "GPU-00000001: 2 processes (17, 18)" in shared
