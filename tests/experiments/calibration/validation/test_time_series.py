"""Power window by window: a load is played as it was recorded, and repeats tell the noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from envs import catalog
from envs.simulator.parallelism import Parallelism
from envs.workloads.base import RequestChunk
from experiments.calibration.data.timed_load import LOADS, TimedLoad
from experiments.calibration.validation.time_series import play, repeat_noise_w, series_table


def load(name: str, requests: list[tuple[float, int, int]], *, shown: bool = False) -> TimedLoad:
    arrival, prompt, output = np.array(requests).T
    time_s = 0.25 * np.arange(1, 13)
    return TimedLoad(
        name=name,
        gpu=catalog.build("gpu", "a100_sxm4_80gb_500w"),
        model=catalog.build("model", "qwen3_8b"),
        parallelism=Parallelism(),
        requests=RequestChunk(arrival, prompt.astype(np.int64), output.astype(np.int64)),
        time_s=time_s,
        power_w=np.full(12, 300.0),
        iteration_s=np.full(12, 0.0125),
        shown=shown,
    )


def test_a_load_step_rises_in_the_window_in_which_its_requests_come() -> None:
    recorded = load("step", [(1.0, 100, 4000)] * 4)
    calibration = catalog.build("calibration", "a100_sxm4_80gb")
    found = play(recorded, calibration)
    np.testing.assert_allclose(found.power_w[:4], 85.0)
    assert found.power_w[5:].min() > 250.0
    assert np.all(np.isnan(found.iteration_s[:4]))
    assert found.iteration_s[6] == pytest.approx(0.0125, rel=0.15)
    assert found.rmse_w >= abs(found.bias_w)
    shown = play(replace(recorded, shown=True), calibration)
    assert shown.power_w[4] != pytest.approx(found.power_w[4]), "a moment, not the window's mean"
    assert "| step |" in series_table([found])


def test_a_load_is_played_with_the_host_times_of_its_engine() -> None:
    recorded = load("step", [(1.0, 100, 4000)] * 4)
    calibration = catalog.build("calibration", "h100_sxm")
    recorded = replace(recorded, gpu=catalog.build("gpu", "h100_sxm"))
    old, new = (play(replace(recorded, engine=engine), calibration) for engine in ("", "vllm-0.26"))
    assert new.iteration_s[6] < 0.95 * old.iteration_s[6]


def test_repeated_load_steps_tell_the_noise() -> None:
    one = load("x load_step 1", [(1.0, 100, 10)])
    other = replace(one, name="x load_step 2", power_w=one.power_w + 10.0)
    alone = replace(one, name="x poisson 3", power_w=one.power_w + 500.0)
    assert repeat_noise_w([one, other, alone]) == pytest.approx(10.0)
    assert repeat_noise_w([one, alone]) is None


def test_requests_of_known_load_steps_are_in_order_and_possible() -> None:
    for name, requests in LOADS.items():
        arrivals = [arrival for arrival, _, _ in requests]
        assert arrivals == sorted(arrivals), name
        assert all(prompt > 0 and output > 0 for _, prompt, output in requests), name
