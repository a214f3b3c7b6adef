"""vLLM's own route for the batch limit, at a stub that follows its proposal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from live_support import (
    FakeVllm,
    act,
    advance_until,
    attach,
    live,
    small_workload,
    wait_for,
)  # fmt: skip

from envs.errors import NotRestoredError
from envs.knobs import Knobs
from envs.live import private_folder
from envs.live.batch_limit import BatchLimit
from envs.live.devices.nvml import Nvml
from envs.live.errors import BatchLimitError, NoPluginError, ServerReplacedError
from envs.live.guard import ROOT
from envs.live.limit_choice import limit_control_of
from envs.live.runtime_config import RuntimeConfig
from envs.live.server import LiveServer


class StubVllm(FakeVllm):
    """A server without the plug-in and with the route."""

    @property
    def running_limit(self) -> int:
        told = self.client.get_json("/v1/runtime_config")
        return int(told.get("scheduler", told)["max_num_running_seqs"])

    def patch(self, limit: int) -> None:
        body = {"max_num_running_seqs": limit}
        assert self.client.call("PATCH", "/v1/runtime_config", body)[0] == 200


@pytest.fixture(params=["flat", "nested"])
def stub(request: pytest.FixtureRequest) -> Iterator[StubVllm]:
    server = StubVllm.anywhere("--no-plugin", "--runtime-config", request.param)
    yield server
    server.stop()


@pytest.fixture
def flat() -> Iterator[StubVllm]:
    server = StubVllm.anywhere("--no-plugin", "--runtime-config", "flat")
    yield server
    server.stop()


def test_it_is_chosen_where_a_server_has_it_and_the_plugin_where_there_is_both() -> None:
    for arguments, kind in (
        (["--no-plugin", "--runtime-config", "flat"], RuntimeConfig),
        (["--runtime-config", "flat"], BatchLimit),
        ([], BatchLimit),
    ):
        server = FakeVllm.anywhere(*arguments)
        assert type(limit_control_of(server.client)) is kind
        server.stop()
    server = FakeVllm.anywhere("--no-plugin")
    with pytest.raises(NoPluginError, match=r"server\.batch_limit=off"):
        limit_control_of(server.client)
    server.stop()


def test_a_run_sets_the_limit_and_puts_it_back(stub: StubVllm, fake_gpus: Any) -> None:
    stub.patch(6)
    with live(attach(stub, device=Nvml())) as server:
        assert server.knob_limits.max_num_seqs == 6  # no more than was found
        assert server.facts["batch_limit_route"] == "/v1/runtime_config"
        server.reset(1)
        row = act(server, Knobs(400.0, 3))
        assert stub.running_limit == 3
        assert row.max_num_seqs == 3.0
        advance_until(server, lambda rows: rows[-1].running <= 3)
    assert stub.running_limit == 6


def test_what_others_set_meanwhile_stays(flat: StubVllm, fake_gpus: Any) -> None:
    with live(attach(flat, device=Nvml())) as server:
        server.reset(1)
        act(server, Knobs(400.0, 3))
        flat.patch(5)
    assert flat.running_limit == 5


def test_preempting_is_refused_before_anything_changes(flat: StubVllm, fake_gpus: Any) -> None:
    with pytest.raises(BatchLimitError, match=r"drains.*server\.batch_limit=drain"):
        LiveServer(attach(flat, device=Nvml(), batch_limit="preempt"), small_workload())
    assert flat.running_limit == 8
    assert fake_gpus.limits_w == [400.0]


def test_a_server_that_does_not_do_what_it_says_is_told(flat: StubVllm) -> None:
    control = RuntimeConfig(flat.client)
    control.read()
    with pytest.raises(BatchLimitError, match="answered 400"):
        control.set(max_num_seqs=99)
    flat.fault(deaf=True)
    with pytest.raises(BatchLimitError, match="asked for 3, and 8 is in force"):
        control.set(max_num_seqs=3)


def test_a_server_that_was_started_again_keeps_its_own_limit(flat: StubVllm) -> None:
    control = RuntimeConfig(flat.client)
    control.read()
    control.set(max_num_seqs=3)
    flat.stop()
    flat.start()
    with pytest.raises(ServerReplacedError):
        control.set(max_num_seqs=2)
    flat.patch(3)  # as it happens, the same as ours
    control.release()
    assert flat.running_limit == 3


CONTROLLER = """
import os, signal, sys
from envs.live.config import VllmServerConfig
from envs.live.devices.nvml import Nvml
from envs.live.session import Session
session = Session(VllmServerConfig(url=sys.argv[1], control=True, device=Nvml(), max_num_seqs=8))
session.take_control()
session._set_batch(4)
session._set_batch(2)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_guard_puts_it_back(flat: StubVllm, fake_gpus: Any) -> None:
    flat.patch(7)
    path = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-c", CONTROLLER, flat.url], env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == -signal.SIGKILL
    wait_for(lambda: flat.running_limit == 7)


def test_what_was_found_outlives_controller_and_guard(
    flat: StubVllm, fake_gpus: Any, caplog: pytest.LogCaptureFixture
) -> None:
    flat.patch(6)
    killed = RuntimeConfig(flat.client)  # and so was its guard: nobody restores
    killed.set(max_num_seqs=2)
    assert flat.running_limit == 2
    with live(attach(flat, device=Nvml(), max_num_seqs=None)) as server:
        assert server.knob_limits.max_num_seqs == 6
        server.reset(1)
        assert "counts as found" in caplog.text
        act(server, Knobs(400.0, 3))
    assert flat.running_limit == 6
    assert list(private_folder.directory().iterdir()) == []


def test_a_limit_that_an_operator_set_since_counts_as_found(flat: StubVllm) -> None:
    RuntimeConfig(flat.client).set(max_num_seqs=2)
    flat.patch(5)
    control = RuntimeConfig(flat.client)
    control.read()
    assert control.found == 5


def test_a_limit_that_cannot_be_put_back_stays_noted(flat: StubVllm, fake_gpus: Any) -> None:
    config = attach(flat, device=Nvml(), max_num_seqs=None, call_timeout_s=5.0)
    server = LiveServer(config, small_workload())
    server.reset(1)
    act(server, Knobs(400.0, 3))
    os.kill(flat.process.pid, signal.SIGSTOP)
    with pytest.raises(NotRestoredError, match="found 8: "):
        server.close()
    assert list(private_folder.directory().glob("*.limit.json"))
    os.kill(flat.process.pid, signal.SIGCONT)
    wait_for(lambda: flat.running_limit == 8)
    wait_for(lambda: not list(private_folder.directory().iterdir()))
