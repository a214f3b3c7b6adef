"""GPUs read through DCGM: a ``dcgmi`` of our own prints what the real one does."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from live_support import PATIENCE_S, FakeVllm, attach, live

from envs import catalog
from envs.errors import ConfigurationError
from envs.knobs import Knobs
from envs.live.devices import dcgm as module
from envs.live.devices.dcgm import Dcgm
from envs.live.errors import DeviceLostError, DeviceNotFoundError, DeviceNotSupportedError

DCGMI = """#!{python}
import sys, time
from pathlib import Path

options = dict(zip(sys.argv[2::2], sys.argv[3::2], strict=True))
assert sys.argv[1] == "dmon"
Path({seen!r}).write_text(" ".join(sys.argv[1:]))
fields = options["-e"].split(",")
values = {{
    "155": "{power}", "156": None, "100": "1410", "112": "{reasons}", "164": "300.000",
    "161": "100.000", "162": "400.000", "160": "300.000", "113": "1980",
}}

def row(cells):
    print(cells[0].ljust(10) + "".join(cell.ljust(18) for cell in cells[1:]), flush=True)

mode = "{mode}"
if mode == "refused":
    print("Error: unable to establish a connection to the specified host: localhost")
    print("Error: Unable to connect to host engine. Host engine connection invalid/disconnected.")
    sys.exit(1)
row(["#Entity", *("F" + name for name in fields)])
row(["ID", *("W" for _ in fields)])
sample = 0
while True:
    for gpu in options["-i"].split(","):
        told = values | {{"156": str(1_000_000 * (1 + int(gpu)) + 25_000 * sample)}}
        if sample == 0:
            told |= {{"155": "N/A", "100": "N/A"}}  # not sampled yet
        if mode == "few":
            told |= {{"156": "N/A", "161": "N/A", "162": "N/A", "112": "N/A", "164": "N/A"}}
        row(["GPU " + gpu, *(told[name] for name in fields)])
    sample += 1
    if mode == "ends" and sample == 4:
        sys.exit(0)
    if sample % 14 == 0:
        row(["#Entity", *("F" + name for name in fields)])
        row(["ID", *("W" for _ in fields)])
    time.sleep(int(options["-d"]) * 1e-3 if mode != "silent" or sample < 4 else 60.0)
"""


@pytest.fixture
def dcgmi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns what puts a program into the path, and tells how it was called."""

    def put(mode: str = "well", power: str = "250.500", reasons: str = "4") -> Path:
        seen = tmp_path / "seen"
        text = DCGMI.format(
            python=sys.executable, seen=str(seen), mode=mode, power=power, reasons=reasons
        )
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / "dcgmi").write_text(text)
        (tmp_path / "bin" / "dcgmi").chmod(0o700)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr(module, "PATIENCE_S", PATIENCE_S)
        return seen

    return put


def opened(**settings: Any) -> Dcgm:
    device = Dcgm(**{"period_ms": 20, **settings})
    device.open(None)
    return device


def test_reads_every_gpu_in_si_units(dcgmi: Any) -> None:
    seen = dcgmi()
    device = opened(gpus=["0", "2"], host="node1:5555")
    assert seen.read_text() == (
        "dmon -e 155,156,100,112,164,161,162,160,113 -i 0,2 -d 20 --host node1:5555"
    )
    first, later = device.read(), device.read()
    assert first.power_w == (250.5, 250.5)
    assert first.sm_clock_mhz == (1410.0, 1410.0)
    assert first.cap_w == (300.0, 300.0)
    assert first.cap_binds == (True, True)
    assert first.energy_j is not None
    assert first.energy_j[1] - first.energy_j[0] == pytest.approx(2000.0)
    assert later.energy_j is not None
    samples = (later.energy_j[0] - first.energy_j[0]) / 25.0  # more than one, if we are slow
    assert samples >= 1.0
    assert samples == pytest.approx(round(samples))
    assert later.time_s > first.time_s
    assert (device.limits.cap_min_w, device.limits.cap_max_w) == (100.0, 400.0)
    assert device.limits.clock_max_mhz == 1980.0
    assert device.cap_found_w == 300.0
    assert device.facts["energy_counter"]
    process = device._process
    device.close()
    assert process is not None
    assert process.poll() is not None


def test_what_a_gpu_does_not_tell_is_left_out(dcgmi: Any) -> None:
    dcgmi("few")
    device = opened()
    reading = device.read()
    assert reading.energy_j is None
    assert reading.cap_binds == (False,)
    assert reading.cap_w == (300.0,)
    assert device.limits.cap_max_w == 300.0
    device.close()


def test_it_sets_nothing(dcgmi: Any) -> None:
    dcgmi()
    device = opened()
    for call in (device.take_control, lambda: device.set_power_cap(200.0),
                 lambda: device.lock_clock(900.0)):  # fmt: skip
        with pytest.raises(DeviceNotSupportedError, match=r"server\.control=false"):
            call()
    device.close()


def test_what_is_missing_is_named(dcgmi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"device\.gpus"):
        Dcgm(gpus=["GPU-12"])
    with pytest.raises(ConfigurationError, match=r"device\.period_ms"):
        Dcgm(period_ms=1)
    dcgmi("refused")
    with pytest.raises(DeviceLostError, match=r"connect to host engine.*nv-hostengine"):
        opened()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceNotFoundError, match="PATH"):
        opened()


@pytest.mark.parametrize(("mode", "said"), [("ends", "ended"), ("silent", "told no power")])
def test_a_host_engine_that_goes_away_is_told(
    dcgmi: Any, monkeypatch: pytest.MonkeyPatch, mode: str, said: str
) -> None:
    dcgmi(mode)
    device = opened()
    if mode == "silent":
        monkeypatch.setattr(module, "PATIENCE_S", 0.5)
    with pytest.raises(DeviceLostError, match=said):  # noqa: PT012 - some samples come first
        while True:
            device.read()
    device.close()


def test_a_live_server_is_watched(dcgmi: Any, fake_vllm: FakeVllm) -> None:
    dcgmi()
    device = catalog.build("device", {"base": "dcgm", "period_ms": 50})
    config = attach(fake_vllm, device=device, control=False, batch_limit="off")
    with live(config) as server:
        server.reset(1)
        server.apply(Knobs(150.0, 8))
        rows = [server.advance(0.5) for _ in range(4)]
    assert [row.power_w for row in rows[1:]] == pytest.approx([250.5] * 3)
    assert rows[-1].power_cap_w == 300.0
    assert rows[-1].cap_binding == pytest.approx(1.0)
    with pytest.raises(DeviceNotSupportedError), live(attach(fake_vllm, device=Dcgm())):
        pass
