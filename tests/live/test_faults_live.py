"""A real vLLM that is launched, throttled, killed, and started again; run after the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from live_help import (
    MAX_NUM_SEQS,
    ROOT,
    attached,
    groups,
    is_free,
    launch,
    live,
    requests,
    run,
    state,
    total,
    wait_for,
)

from envs.knobs import Knobs
from envs.live.config import VllmServerConfig
from envs.live.devices.processes import start_ticks, workers_of
from envs.live.devices.throttled_cpu import CGROUP_V1, ThrottledCpu
from envs.live.errors import ServerDiedError, ServerHangsError, ServerNotThereError
from envs.live.process import VllmProcess

pytestmark = pytest.mark.live

CONTROLLER = """
import sys, time
sys.path.insert(0, {tests!r})
from live_help import attached
from envs.knobs import Knobs
from envs.live.session import Session

class Running:
    url, pid = sys.argv[1], int(sys.argv[2])

session = Session(attached(Running))
session.take_control()
session.actuator.ask(Knobs(100.0, 3))
assert session.actuator.wait(20.0)
print("controlling", flush=True)
time.sleep(60)
"""


def test_cap_and_limit_return_within_a_second_of_sigkill(vllm: VllmProcess, limit: Any) -> None:
    code = CONTROLLER.format(tests=str(Path(__file__).parent))
    process = subprocess.Popen(
        [sys.executable, "-c", code, vllm.url, str(vllm.pid)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "controlling\n"
    worker = workers_of(vllm.pid)[0]
    assert groups(worker) != [] or not Path(CGROUP_V1).is_dir()
    assert limit.read()["max_num_seqs"] == 3
    process.kill()
    process.wait()
    took = wait_for(lambda: limit.read()["max_num_seqs"] == MAX_NUM_SEQS, 10.0)
    # The guard acts within a second; a limit is answered between two steps of a busy engine.
    assert took < 2.0
    wait_for(lambda: is_free(vllm), 10.0)
    assert groups(worker) == []
    assert state(worker) != "T"


@pytest.mark.long
def test_an_engine_that_is_stopped_hangs(vllm: VllmProcess) -> None:
    """vLLM's API process goes on answering; only the missing tokens tell."""
    engine = workers_of(vllm.pid)[0]
    with live(attached(vllm, stall_timeout_s=4.0), requests(concurrency=4)) as server:
        server.reset(0)
        run(server, 2.0)
        os.kill(engine, signal.SIGSTOP)
        rows = []
        try:
            with pytest.raises(ServerHangsError):
                rows.extend(server.advance(0.5) for _ in range(40))
        finally:
            os.kill(engine, signal.SIGCONT)
        assert rows
    wait_for(lambda: is_free(vllm), 30.0)  # the guard, once the engine answers again
    with live(attached(vllm), requests(concurrency=4)) as server:
        server.reset(0)
        assert total(run(server, 5.0), "output_tokens") > 0


@pytest.mark.long
def test_a_killed_worker_ends_an_attached_run_with_its_own_error(vllm: VllmProcess) -> None:
    """The last test of this server. Its API process says that the engine died, then ends too."""
    with live(attached(vllm), requests(rate=4.0)) as server:
        server.reset(0)
        server.apply(Knobs(200.0, 8))
        rows = run(server, 3.0)
        worker = workers_of(vllm.pid)[0]
        os.kill(worker, signal.SIGKILL)
        with pytest.raises((ServerDiedError, ServerNotThereError)):
            rows.extend(server.advance(0.5) for _ in range(60))
        assert total(rows, "finished") > 0
        assert server.latency().finished > 0
    wait_for(lambda: groups(worker) == [], 5.0)


def test_a_launched_server_with_a_key_survives_a_crash(
    vllm: VllmProcess, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm.stop()
    monkeypatch.setenv("VLLM_API_KEY", "a secret")
    config = VllmServerConfig(
        launch=launch(models / "qwen2moe"),
        device=ThrottledCpu(),
        max_num_seqs=MAX_NUM_SEQS,
        capacity_tok_s=400.0,
        call_timeout_s=5.0,
        on_failure="restart",
        batch_limit="preempt",
    )
    with live(config, requests(concurrency=12)) as server:
        assert server.facts["scheduler"] == "SyncBatchLimitScheduler"
        assert server.facts["prefix_caching"] is False
        process = server._session.host.process
        assert process is not None
        first = process.pid
        server.reset(0)
        run(server, 4.0)
        server.apply(Knobs(400.0, 3))
        run(server, 3.0)
        rows = run(server, 4.0)
        assert max(row.running for row in rows) <= 3
        assert rows[-1].max_num_seqs == 3
        assert server._session.generator.take_failures() == []

        monkeypatch.setenv("VLLM_API_KEY", "wrong")
        status, _ = _put(process.url, {"Authorization": "Bearer wrong"})
        assert status == 401
        status, _ = _put(process.url, {})
        assert status == 401
        assert server._session._limit.read()["max_num_seqs"] == 3
        monkeypatch.setenv("VLLM_API_KEY", "a secret")

        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        deadline = time.monotonic() + 400.0
        while not server.events and time.monotonic() < deadline:
            server.advance(0.5)
        assert server.events[0]["error"] in ("ServerDiedError", "ServerNotThereError")
        assert server.extras["downtime_s"] > 5.0
        assert process.pid != first
        rows = run(server, 6.0)
        assert total(rows, "output_tokens") > 0
        assert rows[-1].max_num_seqs == 3
        last = process.pid
        worker = workers_of(last)[0]
    assert start_ticks(last) is None
    wait_for(lambda: groups(worker) == [], 5.0)


def _put(url: str, headers: dict[str, str]) -> tuple[int, bytes]:
    from envs.live.batch_limit import PATH
    from envs.live.http_client import HttpClient

    return HttpClient(url, headers, 5.0).call("PUT", PATH, {"max_num_seqs": 9})
