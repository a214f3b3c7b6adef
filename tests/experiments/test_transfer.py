"""Calibrating the simulator for a live device, and comparing the two."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from baselines.profile import ProfileRow
from envs.errors import ConfigurationError
from envs.live.devices.throttled_cpu import ThrottledCpu
from envs.simulator.models import ModelSpec
from experiments.evaluation.metrics import RunMetrics
from experiments.sim_to_live import device_fit as device_calibration
from experiments.sim_to_live.comparison import Transfer
from experiments.sim_to_live.device_fit import DeviceFit, fit_device, stand_in_gpu, stand_in_start
from experiments.sim_to_live.report import as_markdown

DEVICE = ThrottledCpu()
GPU = stand_in_gpu(DEVICE, [150.0, 250.0, 400.0])
MODEL = ModelSpec(
    name="tiny", layers=4, hidden=320, heads=4, kv_heads=4, head_dim=80, vocab=1024,
    experts=8, top_k=2, expert_intermediate=256, moe_layers=4, max_model_len=4096,
)  # fmt: skip
PROMPT = 100.0


def profile(truth: object, noise: float = 0.0) -> list[ProfileRow]:
    """A profile as a device with known coefficients would give it."""
    rng = np.random.default_rng(0)
    blank = [
        ProfileRow(cap, seqs, 1, 1, 1, 100.0, 250.0, 300.0, 0.02, 0.1, float(seqs), 120.0, 2000.0)
        for cap in (150.0, 250.0, 400.0)
        for seqs in (2, 8, 32)
    ]
    values = device_calibration._simulate(blank, GPU, MODEL, truth, PROMPT)  # type: ignore[arg-type]
    values *= np.exp(noise * rng.standard_normal(values.shape))
    return [
        row._replace(throughput_tok_s=speed, prompt_tok_s=2.5 * speed, power_w=power)
        for row, (speed, power) in zip(blank, values.tolist(), strict=True)
    ]


TRUTH = replace(
    stand_in_start(DEVICE), step_s=4e-3, sequence_s=3e-4, bandwidth_efficiency=0.02,
    expert_bandwidth_efficiency=0.05, flops_efficiency=0.05, busy_power_w=330.0,
)  # fmt: skip


def test_the_fit_finds_a_device_it_has_never_seen() -> None:
    fit = fit_device(profile(TRUTH), GPU, MODEL, stand_in_start(DEVICE), PROMPT)
    assert fit.rows == 9
    assert fit.throughput_error < 0.02
    assert fit.power_error < 0.02
    assert fit.calibration.fit_error == {
        "throughput": fit.throughput_error, "power": fit.power_error,
    }  # fmt: skip


def test_noise_is_not_fitted_away() -> None:
    fit = fit_device(profile(TRUTH, noise=0.1), GPU, MODEL, stand_in_start(DEVICE), PROMPT)
    assert 0.01 < fit.throughput_error < 0.2


def test_the_quota_slows_the_simulated_worker_in_proportion() -> None:
    """At a fifth of the way from idle to full power the worker has a fifth of its core."""
    row = profile(TRUTH)[-1]
    busy = replace(TRUTH, step_s=0.0, sequence_s=0.0)
    free, capped = (
        device_calibration._simulate([row._replace(power_cap_w=cap)], GPU, MODEL, busy, PROMPT)[0]
        for cap in (400.0, 128.0)
    )
    assert capped[1] == pytest.approx(128.0, rel=0.02)
    utilisation = (free[1] - 60.0) / 340.0
    assert capped[0] / free[0] == pytest.approx(0.2 / utilisation, rel=0.05)


def test_too_short_a_profile_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="too few"):
        fit_device(profile(TRUTH)[:3], GPU, MODEL, stand_in_start(DEVICE), PROMPT)


def result(**changes: float) -> Transfer:
    one = RunMetrics(**dict.fromkeys((item.name for item in fields(RunMetrics)), 1.0))
    live = {"static": replace(one, tokens_per_joule=2.0), "pals": one}
    simulated = {"static": replace(one, **changes), "pals": replace(one, tpot_p50_s=None)}
    fit = DeviceFit(TRUTH, 0.05, 0.02, 9)
    return Transfer(fit, live, simulated, "modelled")


def test_gaps_are_relative_and_rates_are_differences() -> None:
    rows = {
        (row["controller"], row["metric"]): row["gap"]
        for row in result(throughput_tok_s=0.8, qos_violation_rate_backlog=1.25).rows()
    }
    assert rows["static", "throughput_tok_s"] == pytest.approx(-0.2)
    assert rows["static", "qos_violation_rate_backlog"] == pytest.approx(0.25)
    assert rows["pals", "tpot_p50_s"] is None


def test_rankings_and_the_table_tell_what_power_is() -> None:
    same = result(tokens_per_joule=3.0)
    assert same.rankings() == ([["static"], ["pals"]], [["static"], ["pals"]])
    other = result(tokens_per_joule=0.5)
    assert other.rankings()[1] == [["pals"], ["static"]]
    tied = result(tokens_per_joule=1.005)
    assert tied.rankings()[1] == [["static", "pals"]]  # no live run repeats as well as that
    assert not tied.same_ranking
    assert same.same_ranking
    text = as_markdown(other)
    assert "(modelled)" in text
    assert "not the same" in text
    assert "| static |" in text
    assert as_markdown(same).count("not the same") == 0
