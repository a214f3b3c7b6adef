"""Lengths that a server has counted are those that are expected of its users."""

from __future__ import annotations

import math

import numpy as np
import pytest

from envs import catalog
from envs.errors import ServerError
from envs.live import counted_lengths
from envs.live.config import VllmServerConfig
from envs.live.counted_lengths import counted, quantiles
from envs.live.histogram import Histogram
from envs.live.metrics import Snapshot, parse

BOUNDS = (1.0, 10.0, 100.0, 200.0, 1000.0, math.inf)
METRICS = """
vllm:num_requests_running 1.0
vllm:num_requests_waiting 0.0
vllm:generation_tokens_total 4000.0
vllm:request_prompt_tokens_bucket{le="100.0"} 0.0
vllm:request_prompt_tokens_bucket{le="200.0"} 80.0
vllm:request_prompt_tokens_bucket{le="+Inf"} 80.0
vllm:request_prompt_tokens_sum 9600.0
vllm:request_generation_tokens_bucket{le="10.0"} 40.0
vllm:request_generation_tokens_bucket{le="100.0"} 80.0
vllm:request_generation_tokens_bucket{le="+Inf"} 80.0
vllm:request_generation_tokens_sum 2420.0
"""


def server() -> VllmServerConfig:
    return VllmServerConfig(url="http://127.0.0.1:1")


def test_a_histograms_samples_lie_evenly_in_its_buckets() -> None:
    found = quantiles(Histogram(BOUNDS, (0.0, 0.0, 50.0, 100.0, 100.0, 100.0), 9000.0))
    at = found.quantile(np.array([0.0, 0.25, 0.5, 0.75, 1.0]))
    assert at == pytest.approx([10.0, 55.0, 100.0, 150.0, 200.0])


def test_what_lies_beyond_the_last_bound_is_not_lost() -> None:
    found = quantiles(Histogram((10.0, math.inf), (1.0, 2.0), 30.0))
    assert found.quantile(np.array([1.0]))[0] == 15.0


def test_users_have_the_lengths_that_were_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted_lengths, "fetch", lambda client: parse(METRICS))
    workload = counted(catalog.build("workload", "external"), server())
    assert workload.mean_prompt_tokens == pytest.approx(120.0, rel=0.01)
    assert workload.mean_output_tokens == pytest.approx(30.25, rel=0.01)
    drawn = workload.stream(np.random.default_rng(0), 1.0).take(4000).output_tokens
    assert np.mean(drawn < 11.0) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("answers", [False, True])
def test_a_server_that_knows_little_is_expected_to_be_as_configured(
    answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(client: object) -> Snapshot:
        if answers:
            return parse(METRICS.replace(" 80.0", " 49.0").replace(" 40.0", " 20.0"))
        raise ServerError("nobody there")

    monkeypatch.setattr(counted_lengths, "fetch", fetch)
    external = catalog.build("workload", "external")
    assert counted(external, server()) is external
    assert counted(external, VllmServerConfig(url=None)) is external
