"""Recorded requests played to a simulated server."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from envs import catalog
from envs.simulator.parallelism import Parallelism
from envs.simulator.step_model import compile_step_model, resolve_step
from envs.workloads.base import RequestChunk
from experiments.calibration.data.measurement import RecordedLoad
from experiments.calibration.validation.cross_validation import installed
from experiments.calibration.validation.load_replay import RecordedRequests, replay


def equal_requests(count: int, every_s: float, prompt: int, output: int) -> RequestChunk:
    return RequestChunk(
        every_s * np.arange(count), np.full(count, prompt), np.full(count, output)
    )  # fmt: skip


@pytest.fixture(scope="module")
def load() -> RecordedLoad:
    return RecordedLoad(
        dataset="measure-gpu", gpu=catalog.build("gpu", "h100_sxm"),
        model=catalog.build("model", "llama31_8b"), run="made up",
        requests=equal_requests(3, 0.0, 16, 2000), in_flight=8, begin_s=1.0, end_s=5.0,
        running=8.0, output_tok_s=1000.0, prompt_tok_s=0.0, itl_s=8e-3, ttft_mean_s=0.01,
        ttft_p50_s=None, power_w=450.0, clock_fraction=1.0,
    )  # fmt: skip


def test_a_closed_loop_that_decodes_takes_the_steps_of_the_step_model(load: RecordedLoad) -> None:
    found = replay(load, installed(load.gpu))
    c = compile_step_model(load.gpu, load.model, Parallelism(), installed(load.gpu))
    time_s, power_w, _, _ = resolve_step(c, 8.0, 8.0 * 400.0, 0.0, 0.0, 700.0, 1.0)
    assert found.simulated["running"] == 8.0
    assert found.simulated["itl_s"] == pytest.approx(time_s, rel=0.01)
    assert found.simulated["power_w"] == pytest.approx(power_w, rel=0.01)
    assert found.simulated["prompt_tok_s"] == 0.0, "they came before the stretch began"
    assert found.cap_binding == 0.0


def test_open_arrivals_are_served_at_the_rate_at_which_they_were_sent(load: RecordedLoad) -> None:
    requests = equal_requests(300, 0.02, 100, 20)
    found = replay(replace(load, requests=requests, in_flight=None), installed(load.gpu))
    assert found.simulated["prompt_tok_s"] == pytest.approx(5000.0, rel=0.02)
    assert found.simulated["output_tok_s"] == pytest.approx(1000.0, rel=0.02)
    assert 0.005 < found.simulated["ttft_p50_s"] < 0.05
    assert found.simulated["ttft_mean_s"] == pytest.approx(found.simulated["ttft_p50_s"], rel=0.5)


@pytest.mark.parametrize("endless", [False, True])
def test_chunks_of_any_size_give_the_same_requests(endless: bool) -> None:
    requests = RequestChunk(np.arange(5.0), np.arange(5) + 10, np.arange(5) + 20)
    whole = RecordedRequests(requests, endless=endless).take(12).prompt_tokens.tolist()
    stream = RecordedRequests(requests, endless=endless)
    parts = [n for size in (1, 3, 8) for n in stream.take(size).prompt_tokens.tolist()]
    assert parts == whole
    assert whole == [10, 11, 12, 13, 14] + ([10, 11, 12, 13, 14, 10, 11] if endless else [])
