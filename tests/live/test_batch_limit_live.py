"""The plug-in inside of a real vLLM: limits followed, bad requests refused, nothing lost."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from live_help import (
    MAX_NUM_SEQS,
    PYTHON,
    attached,
    live,
    plugin_environment,
    requests,
    run,
    total,
    wait_for,
)  # fmt: skip

from envs.live import metrics
from envs.live.batch_limit import PATH, PLUGIN_DIR, BatchLimit
from envs.live.http_client import HttpClient
from envs.live.process import VllmProcess

pytestmark = pytest.mark.live


def test_the_plugin_imports_with_vllm_and_without_gymnasium() -> None:
    code = (
        "import sys, pals_batch_limit.scheduler, pals_batch_limit.route\n"
        "bad = {'gymnasium', 'envs'} & set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([str(PYTHON), "-c", code], check=True, env=plugin_environment())
    without = subprocess.run([str(PYTHON), "-c", "import gymnasium"], capture_output=True)
    assert without.returncode != 0


def test_prefix_caching_is_off_and_the_scheduler_is_ours(
    client: HttpClient, limit: BatchLimit
) -> None:
    assert limit.read()["scheduler"] == "SyncBatchLimitScheduler"
    text = client.call("GET", "/metrics")[1].decode()
    assert 'enable_prefix_caching="False"' in text
    assert metrics.parse(text).kv_cache_tokens > 10_000


@pytest.mark.parametrize(
    "body",
    [b'{"max_num_seqs": 0}', b'{"max_num_seqs": 33}', b'{"max_num_seqs": "4"}', b"nonsense"],
)
def test_bad_requests_change_nothing(vllm: VllmProcess, limit: BatchLimit, body: bytes) -> None:
    import http.client

    before = limit.read()
    connection = http.client.HTTPConnection("127.0.0.1", vllm.port, timeout=10)
    connection.request("PUT", PATH, body)
    assert connection.getresponse().status == 422
    after = limit.read()
    for key in ("max_num_seqs", "max_num_batched_tokens", "mode"):
        assert after[key] == before[key]


def test_the_limit_is_followed_by_draining(vllm: VllmProcess, limit: BatchLimit) -> None:
    # Outputs so long that four at a time take some 20 s for those that wait: a client that is
    # halted for a while must not find the queue empty.
    with live(attached(vllm, control=False), requests(concurrency=40, output_scale=4.0)) as server:
        server.reset(0)
        wait_for(lambda: limit.read()["running"] >= 25, 30.0)
        before = metrics.fetch(limit._client).counters["preemptions"]
        surplus = limit.set(max_num_seqs=4)["running"] > 4  # on a busy machine many end at once
        wait_for(lambda: limit.read()["running"] <= 4, 60.0)
        state = limit.read()
        assert state["effect_delay_s"] > 0.1 or not surplus
        assert metrics.fetch(limit._client).counters["preemptions"] == before
        wait_for(lambda: limit.read()["waiting"] >= 30, 60.0)
        rows = run(server, 4.0)
        assert max(row.running for row in rows) <= 4
        state = limit.read()  # told by the scheduler; the metrics' gauges may be a moment old
        assert state["running"] <= 4
        assert state["waiting"] >= 30
        limit.set(max_num_seqs=16)
        wait_for(lambda: limit.read()["running"] > 8, 30.0)
        rows = run(server, 2.0)
        assert max(row.running for row in rows) <= 16
        assert total(rows, "output_tokens") > 0
        assert server.extras["requests_lost"] == 0


def test_preempting_is_quick_and_loses_no_token(vllm: VllmProcess, limit: BatchLimit) -> None:
    with live(attached(vllm, control=False), requests(concurrency=30)) as server:
        server.reset(0)
        wait_for(lambda: limit.read()["running"] >= 25, 30.0)
        run(server, 1.0)
        limit.change(max_num_seqs=4, mode="preempt")
        took = wait_for(lambda: limit.read()["running"] <= 4, 10.0)
        state = limit.read()
        assert took < 5.0
        assert state["effect_delay_s"] < 2.0
        limit.set(max_num_seqs=MAX_NUM_SEQS)
        rows = run(server, 8.0)
        # Every completion is checked for its exact length by the load generator.
        assert server._session.generator.take_failures() == []
        assert total(rows, "finished") > 5
        assert total(rows, "preemptions") >= 0
        assert server.extras["requests_lost"] == 0


def test_the_token_budget_slows_prefill_and_nothing_breaks(
    vllm: VllmProcess, limit: BatchLimit
) -> None:
    """A prompt of 1,500 tokens takes one step with 2,048 tokens a step, and 12 with 128."""

    def steps() -> int:
        before = int(limit.read()["steps"])
        body = {"model": "tiny", "prompt": [20] * 1500, "max_tokens": 1, "ignore_eos": True}
        status, answer = limit._client.call("POST", "/v1/completions", body, 60.0)
        assert status == 200
        assert json.loads(answer)["usage"]["completion_tokens"] == 1
        return int(limit.read()["steps"]) - before

    whole = steps()
    limit.change(max_num_batched_tokens=128)
    assert steps() >= whole + 10


@pytest.mark.long
def test_answers_come_between_two_steps(vllm: VllmProcess, limit: BatchLimit) -> None:
    with live(attached(vllm, control=False), requests(concurrency=16)) as server:
        server.reset(0)
        run(server, 2.0)
        delays = []
        for _ in range(30):
            began = time.perf_counter()
            limit.set(max_num_seqs=16)
            delays.append(time.perf_counter() - began)
        assert sorted(delays)[15] < 0.5


def scheduled(models: Path, *arguments: str) -> dict[str, Any]:
    """Returns what ``scheduling.py`` tells."""
    script = str(Path(__file__).with_name("scheduling.py"))
    result = subprocess.run(
        [str(PYTHON), script, str(models / "olmoe"), *arguments],
        env=plugin_environment(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    told = next(line for line in result.stdout.splitlines() if line.startswith('{"scheduler"'))
    answer: dict[str, Any] = json.loads(told)
    return answer


@pytest.mark.parametrize("role", ["kv_producer", "kv_consumer"])
def test_preempting_beside_a_kv_connector_loses_no_token(models: Path, role: str) -> None:
    answer = scheduled(models, "async", "preempt", role)
    assert set(answer["tokens"].values()) == {40}
    assert answer["drops"] == (role == "kv_producer")  # only a producer hands caches on
    assert max(answer["running"][60:]) == 3
    if role == "kv_producer":
        assert len(answer["preempted"]) == 13
        assert max(answer["running"][10:]) == 3
    else:  # while a step is in flight their blocks cannot be freed, so they drain
        assert answer["preempted"] == []


@pytest.mark.parametrize("mode", ["drain", "preempt"])
def test_the_asynchronous_scheduler_follows_as_well(models: Path, mode: str) -> None:
    """vLLM's scheduler without a model: it allows no asynchronous server on a CPU."""
    answer = scheduled(models, "async", mode)
    assert answer["scheduler"] == "AsyncBatchLimitScheduler"
    assert set(answer["tokens"].values()) == {40}  # none lost, none twice
    running = answer["running"]
    assert running[8] == 16
    assert max(running[10:] if mode == "preempt" else running[45:]) == 3
    if mode == "drain":
        assert running[10] == 16
    assert answer["effect_delay_s"] is not None


def test_an_old_vllm_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "vllm"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '0.23.0'\n")
    result: Any = subprocess.run(
        [str(PYTHON), "-c", "import pals_batch_limit.scheduler"],
        env={"PYTHONPATH": f"{tmp_path}:{PLUGIN_DIR}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert "was run with vLLM" in result.stderr
