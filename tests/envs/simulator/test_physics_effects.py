"""Effects that the simulated physics must show, with the installed calibrations."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from envs import catalog
from envs.simulator.interconnect import communication
from envs.simulator.parallelism import Parallelism
from envs.simulator.step_model import compile_step_model, resolve_step

DENSE_7_8B = ("llama31_8b", "mistral_7b")


@cache
def vector(gpu: str, model: str, tensor: int = 1):
    spec = catalog.build("gpu", gpu)
    calibration = catalog.build("calibration", spec.calibration)
    model_spec = catalog.build("model", model)
    return compile_step_model(spec, model_spec, Parallelism(tensor), calibration)


def decode(c, batch, cap_w=1e9, clock=1.0, context=300.0):
    return resolve_step(c, batch, batch * context, 0, 0.0, cap_w, clock)


def prefill(c, cap_w=1e9, clock=1.0, tokens=2048):
    return resolve_step(c, 0, 0.0, tokens, tokens * tokens / 2, cap_w, clock)


def joules_per_token(c, batch, gpus=1, **limits):
    time_s, power_w, _, _ = decode(c, batch, **limits)
    return gpus * power_w * time_s / batch


@pytest.mark.parametrize("gpu", ["a100_sxm4_80gb", "h100_sxm", "h200_sxm"])
@pytest.mark.parametrize("model", DENSE_7_8B)
def test_batch_1_to_32_cuts_energy_per_token_more_than_20_times_in_dense_decode(gpu, model):
    c = vector(gpu, model)
    assert joules_per_token(c, 1) > 20.0 * joules_per_token(c, 32)


@pytest.mark.parametrize("gpu", ["a100_sxm4_80gb", "h100_sxm"])
def test_coverage_makes_mixtral_gain_about_half_as_much_from_batching(gpu):
    c = vector(gpu, "mixtral_8x7b", 4)
    gain = joules_per_token(c, 1, 4) / joules_per_token(c, 32, 4)
    assert 8.0 < gain < 15.0


def test_decode_at_a_small_batch_hardly_feels_a_cap_that_halves_prefill_speed():
    c = vector("a100_sxm4_80gb", "mistral_7b")
    assert decode(c, 1, cap_w=250.0)[0] < 1.03 * decode(c, 1)[0]
    assert prefill(c, cap_w=250.0)[0] > 1.4 * prefill(c)[0]


def knee_w(c, batch, lost=0.03):
    """Lowest cap in watts that costs no more than a fraction of the speed."""
    free = decode(c, batch)[0]
    return next(
        cap for cap in np.arange(100.0, 401.0) if decode(c, batch, cap)[0] < free / (1 - lost)
    )


def test_the_knee_moves_up_with_the_batch_and_lies_lower_for_moe():
    dense, moe = vector("a100_sxm4_80gb", "llama2_7b"), vector("a100_sxm4_80gb", "olmoe_1b_7b")
    assert knee_w(dense, 1) < knee_w(dense, 16) < knee_w(dense, 64)
    assert knee_w(moe, 1) < knee_w(moe, 64)
    assert knee_w(moe, 16) < knee_w(dense, 16)


def test_a_clock_lock_saves_energy_where_no_cap_binds():
    """arXiv:2605.11999: decode leaves the cap unused, and a lower clock saves up to 32 %."""
    c = vector("h200_sxm", "llama31_8b")
    free = decode(c, 8)
    assert decode(c, 8, cap_w=650.0) == free
    saved = min(joules_per_token(c, 8, clock=clock) for clock in np.linspace(0.3, 1.0, 29))
    assert 0.68 < saved / joules_per_token(c, 8) < 0.95


@pytest.mark.parametrize("batch", [1, 16])
def test_energy_of_an_a100_is_u_shaped_in_the_clock(batch):
    c = vector("a100_sxm4_80gb", "mistral_7b")
    clocks = np.linspace(0.15, 1.0, 40)
    energy = [joules_per_token(c, batch, clock=clock) for clock in clocks]
    lowest = int(np.argmin(energy))
    assert 0.35 < clocks[lowest] < 0.9
    assert np.all(np.diff(energy[: lowest + 1]) < 0.0)
    assert np.all(np.diff(energy[lowest:]) > 0.0)


def test_a100_slows_less_than_the_clock_does():
    """VoltanaLLM: 1410 to 1005 MHz lengthens decoding less than in proportion."""
    c = vector("a100_sxm4_80gb", "llama31_8b")
    assert decode(c, 32, clock=1005 / 1410)[0] < 1.15 * decode(c, 32)[0]


def test_moe_latency_grows_with_the_batch_because_more_experts_are_touched():
    moe, dense = vector("h100_sxm", "qwen3_30b_a3b"), vector("h100_sxm", "qwen3_8b")
    assert decode(moe, 64)[0] / decode(moe, 8)[0] > 1.8
    assert decode(dense, 64)[0] / decode(dense, 8)[0] < 1.6


def test_mixture_of_experts_on_four_gpus_spends_more_of_its_time_on_communication():
    def fraction(model):
        spec = catalog.build("gpu", "a100_sxm4_80gb")
        calibration = catalog.build("calibration", spec.calibration)
        links = communication(spec, catalog.build("model", model), Parallelism(4), calibration)
        return (links[0] + 32 * links[1]) / decode(vector("a100_sxm4_80gb", model, 4), 32)[0]

    assert fraction("qwen15_moe_a27b") > 1.3 * fraction("mixtral_8x7b")
    assert fraction("olmoe_1b_7b") > 1.3 * fraction("mixtral_8x7b")
