"""What is needed of any vLLM, in one run: telemetry, cap, limit, and everything as it was."""

from __future__ import annotations

import math

import pytest
from live_help import MAX_NUM_SEQS, attached, live, requests, run, total, wait_for

from envs.knobs import Knobs
from envs.live import metrics
from envs.live.batch_limit import BatchLimit
from envs.live.http_client import HttpClient
from envs.live.process import VllmProcess
from envs.telemetry import NUMERIC_FIELDS

pytestmark = pytest.mark.live


def test_all_metrics_are_there(vllm: VllmProcess, client: HttpClient) -> None:
    body = {"model": "tiny", "prompt": [20] * 50, "max_tokens": 8, "ignore_eos": True}
    assert client.call("POST", "/v1/completions", body, 60.0)[0] == 200
    found = metrics.fetch(client)
    assert set(found.gauges) == set(metrics.GAUGES)
    assert set(found.counters) == set(metrics.COUNTERS)
    assert all(histogram.samples > 0 for histogram in found.histograms.values())
    assert found.kv_cache_tokens > 0
    assert found.start_time_s is not None


def test_a_whole_run(vllm: VllmProcess, limit: BatchLimit) -> None:
    with live(attached(vllm), requests(concurrency=24)) as server:
        server.reset(0)
        run(server, 2.0)
        server.apply(Knobs(250.0, 6))
        run(server, 1.0)
        wait_for(lambda: limit.read()["running"] <= 6, 60.0)
        rows = run(server, 5.0)
        assert all(math.isfinite(getattr(row, name)) for row in rows for name in NUMERIC_FIELDS)
        assert max(row.running for row in rows) <= 6
        assert rows[-1].power_cap_w == 250.0
        assert total(rows, "finished") > 0
        assert total(rows, "output_tokens") > 0
        assert server.extras["requests_lost"] == 0
    state = limit.read()
    assert (state["max_num_seqs"], state["owner"]) == (MAX_NUM_SEQS, None)
