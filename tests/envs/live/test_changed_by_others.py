"""A cap that others set meanwhile is noticed, reported, respected, and put back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from live_support import FakeVllm, act, advance_until, attach, live, wait_for

from envs.knobs import Knobs
from envs.live.devices.nvml import Nvml
from envs.live.guard import ROOT


def opened(**settings: Any) -> tuple[Nvml, dict[str, Any]]:
    """Returns an Nvml that is in control, and what it found."""
    device = Nvml(**settings)
    device.open(None)
    return device, device.take_control()


def test_a_lower_cap_is_a_ceiling_from_now_on_and_is_what_is_put_back(
    fake_gpus: Any, caplog: pytest.LogCaptureFixture
) -> None:
    device, found = opened()
    device.set_power_cap(300.0)
    assert device.take_changes_by_others() == 0
    fake_gpus.change(0, limit=200_000)
    device.read()
    assert device.take_changes_by_others() == 1
    assert "300 W to 200 W" in caplog.text
    device.set_power_cap(300.0)
    assert fake_gpus.limits_w == [200.0]
    device.set_power_cap(150.0)
    assert fake_gpus.limits_w == [150.0]
    assert device.take_changes_by_others() == 0
    device.restore(found)
    assert fake_gpus.limits_w == [200.0]


def test_a_higher_cap_is_put_back_and_raises_no_ceiling_of_ours(fake_gpus: Any) -> None:
    fake_gpus.set({"limit": 250_000})
    device, found = opened()
    device.set_power_cap(150.0)
    fake_gpus.change(0, limit=350_000)
    device.set_power_cap(180.0)  # noticed before it is written over, without a reading between
    assert device.take_changes_by_others() == 1
    assert fake_gpus.limits_w == [180.0]
    device.restore(found)
    assert fake_gpus.limits_w == [350.0]


def test_a_cap_set_just_before_the_end_stays(fake_gpus: Any) -> None:
    fake_gpus.set({"limit": 250_000}, {"limit": 300_000})
    device, found = opened(gpus=["0", "1"])
    device.set_power_cap(150.0)
    fake_gpus.change(1, limit=220_000)
    device.restore(found)
    assert fake_gpus.limits_w == [250.0, 220.0]


def test_a_folder_of_notes_that_was_cleared_away_does_not_raise_a_cap(
    fake_gpus: Any, tmp_path: Path
) -> None:
    device, found = opened()
    device.set_power_cap(300.0)
    fake_gpus.change(0, limit=200_000)
    device.read()
    shutil.rmtree(tmp_path / "private")
    device.restore(found)
    assert fake_gpus.limits_w == [200.0]


def test_a_cap_set_after_both_were_killed_to_the_level_before_counts_as_found(
    fake_gpus: Any,
) -> None:
    killed, _ = opened()
    killed.set_power_cap(200.0)
    killed.set_power_cap(150.0)
    fake_gpus.change(0, limit=200_000)
    _, found = opened()
    assert found["power_cap_mw"] == {"GPU-00000000": 200_000}


def test_only_the_gpu_that_was_changed_is_bounded(fake_gpus: Any) -> None:
    fake_gpus.set({}, {})
    device, found = opened(gpus=["0", "1"])
    device.set_power_cap(300.0)
    fake_gpus.change(1, limit=200_000)
    device.set_power_cap(350.0)
    assert fake_gpus.limits_w == [350.0, 200.0]
    device.restore(found)
    assert fake_gpus.limits_w == [400.0, 200.0]


CONTROLLER = """
import os, signal, sys
from envs.live.config import VllmServerConfig
from envs.live.devices.nvml import Nvml
from envs.live.session import Session

session = Session(VllmServerConfig(
    url=sys.argv[1], device=Nvml(), max_num_seqs=8, batch_limit="off", control=True,
))
session.take_control()
session._set_cap(150.0)
print("controlling", flush=True)
sys.stdin.readline()
if sys.argv[2] == "again":
    session._set_cap(140.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("then", ["as it is", "again"])
def test_the_guard_puts_back_what_is_right_then(
    fake_vllm: FakeVllm, fake_gpus: Any, then: str
) -> None:
    """Killed without a word, before and after it noticed."""
    path = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, fake_vllm.url, then],
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "controlling\n"
    assert fake_gpus.limits_w == [150.0]
    fake_gpus.change(0, limit=230_000)
    process.stdin.write("go\n")
    process.stdin.close()
    assert process.wait() == -signal.SIGKILL
    private = os.environ["PALS_RUN_DIR"]
    wait_for(lambda: not [name for name in os.listdir(private) if name.endswith(".cap.json")])
    assert fake_gpus.limits_w == [230.0]


def test_a_live_server_records_it_and_goes_on_beneath(fake_vllm: FakeVllm, fake_gpus: Any) -> None:
    with live(attach(fake_vllm, device=Nvml(), batch_limit="off")) as server:
        server.reset(1)
        act(server, Knobs(150.0, 8))
        assert server.extras["cap_changes_by_others"] == 0.0
        fake_gpus.change(0, limit=350_000)
        advance_until(server, lambda _: server.extras["cap_changes_by_others"] == 1.0)
        # The controller's own 150 W is asked for again, for it was written over.
        wait_for(lambda: fake_gpus.limits_w == [150.0])
        advance_until(server, lambda rows: rows[-1].power_cap_w == 150.0)
        assert server.extras["cap_changes_by_others"] == 0.0
    assert fake_gpus.limits_w == [350.0]


def test_while_watching_other_peoples_caps_are_no_news(fake_vllm: FakeVllm, fake_gpus: Any) -> None:
    with live(attach(fake_vllm, device=Nvml(), control=False)) as server:
        server.reset(1)
        fake_gpus.change(0, limit=350_000)
        advance_until(server, lambda rows: rows[-1].power_cap_w == 350.0)
        assert server.extras["cap_changes_by_others"] == 0.0
    assert fake_gpus.limits_w == [350.0]
