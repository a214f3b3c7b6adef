"""Nothing is left behind: the settings found are found once and return on every way out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from live_support import (
    PATIENCE_S,
    FakeVllm,
    act,
    attach,
    live,
    nvml_stand_in,
    recover,
    run,
    small_workload,
    wait_for,
)  # fmt: skip

from envs.errors import ConfigurationError, NotRestoredError, ServerError
from envs.knobs import Knobs
from envs.live.devices.nvml import Nvml
from envs.live.devices.throttled_cpu import ThrottledCpu
from envs.live.errors import DeviceBusyError, LimitHeldError, RequestsRefusedError
from envs.live.guard import ROOT
from envs.live.server import LiveServer


def limit_found(server: FakeVllm, value: int) -> None:
    """Sets the batch limit that a controller is to find."""
    assert server.client.call("PUT", "/pals/batch_limit", {"max_num_seqs": value})[0] == 200


def test_a_recovery_does_not_forget_what_was_found(
    fake_vllm: FakeVllm, fake_gpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_gpus.set({"limit": 250_000})
    limit_found(fake_vllm, 6)
    config = attach(fake_vllm, device=Nvml(), on_failure="restart")
    with live(config) as server:
        server.reset(1)
        act(server, Knobs(150.0, 2))
        assert fake_gpus.limits_w == [150.0]
        client = server._session.host.client
        find_again, timers = server._session.host.recover, []

        def wake() -> None:
            client.timeout_s = PATIENCE_S
            os.kill(fake_vllm.process.pid, signal.SIGCONT)

        def missed(problem: ServerError) -> None:
            timers.append(threading.Timer(0.5, wake))
            timers[0].start()
            find_again(problem)

        monkeypatch.setattr(server._session.host, "recover", missed)
        client.timeout_s = 0.3
        os.kill(fake_vllm.process.pid, signal.SIGSTOP)
        recover(server)
        timers[0].join()
        server.advance(0.25)
        wait_for(lambda: fake_gpus.limits_w == [150.0])
    assert fake_gpus.limits_w == [250.0]
    wait_for(lambda: fake_vllm.limit()["max_num_seqs"] == 6)


def test_nothing_is_raised_above_what_was_found(fake_vllm: FakeVllm, fake_gpus: Any) -> None:
    fake_gpus.set({"limit": 250_000})
    limit_found(fake_vllm, 6)
    highest = 0
    with live(attach(fake_vllm, device=Nvml())) as server:
        server.reset(1)
        highest = max(highest, fake_vllm.limit()["max_num_seqs"])
        act(server, Knobs(9999.0, 9999))
        highest = max(highest, fake_vllm.limit()["max_num_seqs"])
        assert server.knob_limits.power_cap_max_w == 250.0
        assert server.knob_limits.max_num_seqs == 6
    assert max(value for _, _, value in fake_gpus.state["log"]) == 250_000
    assert highest == 6


def test_a_replacement_keeps_its_own_limit(fake_vllm: FakeVllm, fake_gpus: Any) -> None:
    limit_found(fake_vllm, 6)
    server = LiveServer(attach(fake_vllm, device=Nvml(), call_timeout_s=5.0), small_workload())
    server.reset(1)
    act(server, Knobs(150.0, 2))
    os.kill(fake_vllm.process.pid, signal.SIGSTOP)  # its limit cannot be put back now
    with pytest.raises(NotRestoredError, match=rf"max_num_seqs.*{fake_vllm.port}, found 6: "):
        server.close()
    server.close()  # said once
    fake_vllm.stop()
    fake_vllm.start()
    time.sleep(4.0)  # the guard tries every second
    assert fake_vllm.limit()["max_num_seqs"] == 8


def test_ceilings_are_raised_knowingly(fake_vllm: FakeVllm, fake_gpus: Any) -> None:
    fake_gpus.set({"limit": 250_000})
    limit_found(fake_vllm, 6)
    raised = attach(fake_vllm, device=Nvml(), cap_ceiling_w=300.0, max_num_seqs_ceiling=7)
    with live(raised) as server:
        server.reset(1)
        assert fake_gpus.limits_w == [300.0]
        assert fake_vllm.limit()["max_num_seqs"] == 7
    assert fake_gpus.limits_w == [250.0]
    assert fake_vllm.limit()["max_num_seqs"] == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cap_ceiling_w": 900.0}, r"server\.cap_ceiling_w: 900 W is above"),
        ({"cap_floor_w": 300.0}, r"server\.cap_floor_w: 300 W.*250 W.*cap_ceiling_w"),
        ({"cap_floor_w": 300.0, "cap_ceiling_w": 200.0}, r"server\.cap_floor_w: 300 W"),
        ({"max_num_seqs_ceiling": 99}, r"server\.max_num_seqs_ceiling: 99"),
    ],
)
def test_ceilings_that_cannot_be_name_their_key(
    fake_vllm: FakeVllm, fake_gpus: Any, changes: dict[str, Any], message: str
) -> None:
    fake_gpus.set({"limit": 250_000})
    with pytest.raises(ConfigurationError, match=message):
        LiveServer(attach(fake_vllm, device=Nvml(), **changes), small_workload())
    assert fake_gpus.limits_w == [250.0]


def test_the_lowest_cap_found_is_the_ceiling_of_all(fake_vllm: FakeVllm, fake_gpus: Any) -> None:
    fake_gpus.set({"limit": 300_000}, {"limit": 350_000})
    with live(attach(fake_vllm, device=Nvml(gpus=["0", "1"]))) as server:
        server.reset(1)
        assert fake_gpus.limits_w == [300.0, 300.0]
    assert fake_gpus.limits_w == [300.0, 350.0]


BOTH_KILLED = """
import os, signal, sys
from envs.live.config import VllmServerConfig
from envs.live.devices.nvml import Nvml
from envs.live.session import Session

session = Session(VllmServerConfig(
    url=sys.argv[1], device=Nvml(lock_clocks=True), max_num_seqs=8, batch_limit="off",
    control=True,
))
session.take_control()
session._set_cap(150.0)
session.device.lock_clock(900.0)
os.kill(session._custody._guard.pid, signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


def both_killed(server: FakeVllm) -> None:
    """A controller and its guard are killed together, with a cap of 150 W in force."""
    path = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-c", BOTH_KILLED, server.url], env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == -signal.SIGKILL


def test_what_was_found_outlives_controller_and_guard(
    fake_vllm: FakeVllm, fake_gpus: Any, caplog: pytest.LogCaptureFixture
) -> None:
    fake_gpus.set({"limit": 350_000})
    both_killed(fake_vllm)
    assert fake_gpus.limits_w == [150.0]
    with live(attach(fake_vllm, device=Nvml(), batch_limit="off")) as server:
        assert server.knob_limits.power_cap_max_w == 350.0
        server.reset(1)
        assert caplog.text.count("counts as found") == 1
    assert fake_gpus.limits_w == [350.0]
    assert fake_gpus.state["gpus"][0]["locked"] is None
    fake_gpus.change(0, limit=150_000)  # restored, so this is an operator's now
    assert found_w() == 150.0


def test_a_cap_that_an_operator_set_since_counts_as_found(
    fake_vllm: FakeVllm, fake_gpus: Any
) -> None:
    both_killed(fake_vllm)
    fake_gpus.change(0, limit=300_000)
    assert found_w() == 300.0


def found_w() -> float:
    """Returns the cap that a controller would find."""
    device = Nvml()
    device.open(None)
    return device.cap_found_w


def test_one_server_under_two_addresses_has_one_controller(
    fake_vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limit_found(fake_vllm, 6)
    other = {"url": f"http://localhost:{fake_vllm.port}", "server_pid": None}
    with live(attach(fake_vllm, device=device_apart())) as server:
        server.reset(1)
        with pytest.raises(DeviceBusyError, match="vllm-"):
            LiveServer(attach(fake_vllm, device=device_apart(), **other), small_workload())
        # From another machine, or as another user, no lock is seen: the server itself tells.
        monkeypatch.setenv("PALS_RUN_DIR", str(tmp_path / "elsewhere"))
        with pytest.raises(LimitHeldError, match=rf"pid {os.getpid()}"):
            LiveServer(attach(fake_vllm, device=device_apart(), **other), small_workload())
        server.apply(Knobs(400.0, 3))
        wait_for(lambda: fake_vllm.limit()["max_num_seqs"] == 3)
    assert fake_vllm.limit()["max_num_seqs"] == 6


def test_a_cap_of_a_controller_that_runs_is_not_said_to_be_left_behind(
    fake_vllm: FakeVllm, fake_gpus: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with live(attach(fake_vllm, device=Nvml())) as server:
        server.reset(1)
        server.apply(Knobs(150.0, 2))
        wait_for(lambda: fake_gpus.limits_w == [150.0])
        with live(attach(fake_vllm, device=Nvml(), control=False)):
            pass
        with pytest.raises(DeviceBusyError):
            LiveServer(attach(fake_vllm, device=Nvml()), small_workload())
    assert "left by a controller" not in caplog.text


def test_a_controller_that_the_server_refuses_does_not_touch_the_device(
    fake_vllm: FakeVllm, fake_gpus: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with live(attach(fake_vllm, device=device_apart())) as server:
        server.reset(1)
        monkeypatch.setenv("PALS_RUN_DIR", str(tmp_path / "elsewhere"))  # no lock is seen there
        with pytest.raises(LimitHeldError):
            LiveServer(attach(fake_vllm, device=Nvml()), small_workload())
        assert fake_gpus.state["log"] == []


def device_apart() -> ThrottledCpu:
    """A device of one's own, so that only the server can be held by another controller."""
    return nvml_stand_in()


def test_a_lease_that_lapsed_is_taken_again(fake_vllm: FakeVllm) -> None:
    limit_found(fake_vllm, 6)
    with live(attach(fake_vllm, device=device_apart())) as server:
        server.reset(1)
        act(server, Knobs(400.0, 3))
        held = server._session._limit
        assert held is not None
        held.release()  # as if nothing had been heard of us for a minute
        assert fake_vllm.limit()["max_num_seqs"] == 6
        server._session._renewed_s -= 60.0
        server.advance(0.25)
        wait_for(lambda: fake_vllm.limit()["max_num_seqs"] == 3)
    assert fake_vllm.limit()["max_num_seqs"] == 6


def test_closing_twice_or_in_a_forked_child_puts_nothing_back_twice(
    fake_vllm: FakeVllm, fake_gpus: Any
) -> None:
    fake_gpus.set({"limit": 350_000})
    with live(attach(fake_vllm, device=Nvml())) as server:
        server.reset(1)
        act(server, Knobs(150.0, 2))
        child = os.fork()
        if child == 0:
            server.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert fake_gpus.limits_w == [150.0]
        assert fake_vllm.limit()["max_num_seqs"] == 2
        server.close()
        fake_gpus.change(0, limit=200_000)
        server.close()
        assert fake_gpus.limits_w == [200.0]


def test_closing_that_is_interrupted_is_finished_by_the_guard(
    fake_vllm: FakeVllm, fake_gpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(plan: Any, device: Any = None) -> list[str]:
        raise KeyboardInterrupt

    with live(attach(fake_vllm, device=Nvml())) as server:
        server.reset(1)
        act(server, Knobs(150.0, 2))
        monkeypatch.setattr("envs.live.custody.restore", interrupted)
        with pytest.raises(KeyboardInterrupt):
            server.close()
    wait_for(lambda: fake_gpus.limits_w == [400.0])
    wait_for(lambda: fake_vllm.limit()["max_num_seqs"] == 8)


@pytest.mark.long
@pytest.mark.parametrize("quick", [False, True])
def test_a_server_that_comes_back_with_a_lower_limit_keeps_it(
    quick: bool, fake_gpus: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where it was there again before anybody noticed."""
    server = FakeVllm.anywhere()
    started: list[FakeVllm] = []
    try:
        config = attach(server, device=Nvml(), on_failure="restart", send_load=False)
        with live(config) as controlled:
            controlled.reset(1)
            controlled.apply(Knobs(150.0, 8))
            controlled.advance(0.5)
            server.stop()
            begin = threading.Timer(
                0.0 if quick else 2.0,
                lambda: started.append(FakeVllm(server.port, "--max-num-seqs", "3")),
            )
            begin.start()
            if quick:
                begin.join()
            end = time.monotonic() + 10.0
            while controlled.advance(0.25).max_num_seqs != 3.0:
                assert time.monotonic() < end
            begin.join()
            (smaller,) = started
            recovered = len(controlled.events)
            rows = [controlled.advance(0.25) for _ in range(4)]
            assert len(controlled.events) == recovered
            assert {row.max_num_seqs for row in rows} == {3.0}
            controlled.apply(Knobs(150.0, 2))
            limit = smaller.limit
            wait_for(lambda: limit()["max_num_seqs"] == 2)
            assert caplog.text.count("a batch limit of 3; no higher one is set") == 1
        assert limit()["max_num_seqs"] == 3
    finally:
        server.stop()
        for other in started:
            other.stop()


def test_recoveries_that_follow_each_other_for_ever_end_with_their_cause(
    fake_vllm: FakeVllm, fake_gpus: Any
) -> None:
    config = attach(
        fake_vllm, device=Nvml(), on_failure="restart", recovery_timeout_s=1.0, refused_limit=1
    )
    with live(config, small_workload(rate=40.0)) as server:
        server.reset(1)
        fake_vllm.fault(refuse=500)
        with pytest.raises(RequestsRefusedError, match="500"):
            run(server, PATIENCE_S)
    assert fake_gpus.limits_w == [400.0]
