"""Properties of the step model that must hold for every GPU, model and load."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import catalog
from envs.errors import ConfigurationError
from envs.simulator.calibration import Calibration
from envs.simulator.parallelism import Parallelism
from envs.simulator.power import moved_bytes
from envs.simulator.roofline import expected_maximum
from envs.simulator.step_model import (
    compile_step_model,
    idle_power_w,
    resolve_step,
)

SETUPS = [
    ("a100_sxm4_80gb", "mistral_7b", Parallelism()),
    ("a100_sxm4_40gb", "mixtral_8x7b", Parallelism(4, 4)),
    ("h100_sxm", "qwen3_30b_a3b", Parallelism(2, 1)),
    ("h100_sxm", "gemma3_27b", Parallelism(2)),
    ("h200_sxm", "deepseek_v3", Parallelism(1, 8, 8, 8)),
    ("b200", "gpt_oss_120b", Parallelism()),
    ("rtx_pro_6000", "qwen36_27b_awq", Parallelism()),
]


@cache
def vector(gpu: str, model: str, parallelism: Parallelism) -> np.ndarray:
    spec = catalog.build("gpu", gpu)
    calibration = catalog.build("calibration", spec.calibration)
    return compile_step_model(spec, catalog.build("model", model), parallelism, calibration)


@st.composite
def loads(draw):
    c = vector(*draw(st.sampled_from(SETUPS)))
    sequences = draw(st.integers(0, 256))
    prompt = draw(st.integers(0 if sequences else 1, 4096))
    context = draw(st.floats(1.0, 4000.0)) * sequences
    return c, (sequences, context, prompt, prompt * draw(st.floats(1.0, 4000.0)))


@settings(max_examples=80, deadline=None)
@given(loads(), st.floats(50.0, 1200.0), st.floats(0.05, 1.0))
def test_outputs_are_finite_and_within_bounds(load, cap_w, clock_limit):
    c, step = load
    time_s, power_w, clock, binding = resolve_step(c, *step, cap_w, clock_limit)
    assert 0.0 < time_s < 1e4
    assert math.isfinite(power_w)
    assert power_w > 0.0
    assert c.min_clock <= clock <= max(clock_limit, c.min_clock) + 1e-12
    assert binding in (0.0, 1.0)


@settings(max_examples=80, deadline=None)
@given(loads(), st.floats(60.0, 1200.0), st.floats(0.0, 300.0))
def test_a_lower_cap_never_raises_power_nor_speed(load, cap_w, less_w):
    c, step = load
    time_s, power_w, clock, _ = resolve_step(c, *step, cap_w, 1.0)
    slower_s, lower_w, lower, _ = resolve_step(c, *step, max(cap_w - less_w, 1.0), 1.0)
    assert lower_w <= power_w
    assert slower_s >= time_s
    assert lower <= clock


@settings(max_examples=60, deadline=None)
@given(loads(), st.floats(0.0, 600.0))
def test_null_control_a_cap_above_the_natural_draw_changes_nothing(load, more_w):
    c, step = load
    free = resolve_step(c, *step, 1e9, 1.0)
    if free[3]:  # the highest cap binds by itself
        return
    assert resolve_step(c, *step, free[1] + more_w, 1.0) == free


@settings(max_examples=80, deadline=None)
@given(loads(), st.floats(0.2, 1.0), st.floats(0.2, 1.0))
def test_time_falls_and_power_rises_with_the_clock(load, one, other):
    c, step = load
    low, high = sorted((one, other))
    slow_s, low_w, _, _ = resolve_step(c, *step, 1e9, low)
    fast_s, high_w, _, _ = resolve_step(c, *step, 1e9, high)
    assert slow_s >= fast_s * (1.0 - 1e-9)
    assert low_w <= high_w * (1.0 + 1e-9)


@settings(max_examples=80, deadline=None)
@given(loads(), st.integers(1, 64))
def test_more_work_takes_longer(load, more):
    c, (sequences, context, prompt, pairs) = load
    before = resolve_step(c, sequences, context, prompt, pairs, 1e9, 1.0)[0]
    assert resolve_step(c, sequences + more, context, prompt, pairs, 1e9, 1.0)[0] > before
    assert resolve_step(c, sequences, context, prompt + more, pairs, 1e9, 1.0)[0] > before
    if sequences:
        longer = context + 100.0 * more
        assert resolve_step(c, sequences, longer, prompt, pairs, 1e9, 1.0)[0] > before


@settings(max_examples=60, deadline=None)
@given(loads(), st.floats(60.0, 600.0))
def test_a_binding_cap_is_met_unless_the_lowest_clock_draws_more(load, cap_w):
    c, step = load
    _, power_w, clock, binding = resolve_step(c, *step, cap_w, 1.0)
    if binding and clock > c.min_clock + 1e-9:
        assert power_w == cap_w or power_w == c.cap_max_w
    elif not binding:
        assert clock == 1.0
        assert power_w <= cap_w


def test_the_model_holds_the_idle_power_of_its_gpu():
    c = vector(*SETUPS[0])
    assert idle_power_w(c) == catalog.build("gpu", "a100_sxm4_80gb").idle_power_w


def bare(**values: float) -> Calibration:
    """A calibration whose kernels have no cost beyond their bytes and FLOPs."""
    nothing = dict.fromkeys(
        (
            "product_s", "product_depth_s", "wave_outputs", "expert_overlap",
            "expert_padding_tokens", "moe_layer_s", "moe_token_s", "attention_layer_s",
            "attention_row_s", "attention_length_s", "attention_width", "attention_start_tokens",
            "attention_wave_rows", "eager_layer_s", "eager_moe_layer_s",
        ),
        0.0,
    )  # fmt: skip
    return Calibration(**(nothing | values))


def test_a_memory_bound_step_takes_the_bytes_over_the_bandwidth():
    """With ideal efficiencies and no overheads, decoding one token reads every weight once.

    The activations of one token are the thousandth that is left.
    """
    gpu, model = catalog.build("gpu", "h100_sxm"), catalog.build("model", "llama31_8b")
    ideal = bare(
        bandwidth_efficiency=1.0, flops_efficiency=1.0, overlap=0.0, activation_fraction=0.0,
        layer_s=0.0, step_s=0.0, sequence_s=0.0, sampling_s=0.0,
    )  # fmt: skip
    c = compile_step_model(gpu, model, Parallelism(), ideal)
    read = model.dense_bytes + model.head_bytes
    assert resolve_step(c, 1, 0.0, 0, 0.0, 1e9, 1.0)[0] == pytest.approx(read / 3.35e12, rel=1e-3)


def test_a_compute_bound_step_takes_the_flops_over_the_rate_and_follows_the_clock():
    gpu, model = catalog.build("gpu", "h100_sxm"), catalog.build("model", "llama31_8b")
    ideal = bare(
        flops_efficiency=1.0, attention_flops_efficiency=1.0, overlap=0.0, activation_fraction=0.0,
        layer_s=0.0, step_s=0.0, mixed_step_s=0.0,
        compute_power_w_per_tflop_s=0.0,  # or the highest cap would bind
    )  # fmt: skip
    c = compile_step_model(gpu, model, Parallelism(), ideal)
    flops = 2.0 * model.dense_params * 8192
    full_s = resolve_step(c, 0, 0.0, 8192, 0.0, 1e9, 1.0)[0]
    assert full_s == pytest.approx(flops / 989.4e12, rel=0.01)
    half_s = resolve_step(c, 0, 0.0, 8192, 0.0, 1e9, 0.5)[0]
    assert half_s == pytest.approx(2.0 * full_s, rel=0.01)


@pytest.mark.parametrize("spread", [0.3, 1.0, 1e6])
def test_expert_coverage_follows_the_formula(spread):
    """Time of the experts is the touched share; ``a`` to infinity is the uniform formula."""
    gpu, model = catalog.build("gpu", "h100_sxm"), catalog.build("model", "qwen3_30b_a3b")
    only_experts = bare(
        popularity_spread=spread, overlap=0.0, activation_fraction=0.0, expert_flops_efficiency=1.0,
        expert_bandwidth_efficiency=1.0, sampling_s=0.0, sequence_s=0.0, bandwidth_efficiency=1.0,
        flops_efficiency=1.0,
    )  # fmt: skip
    c = compile_step_model(gpu, model, Parallelism(), only_experts)
    all_experts_s = model.expert_bytes / 3.35e12

    def touched(tokens: int) -> float:
        base = resolve_step(c, 1, 0.0, 0, 0.0, 1e9, 1.0)[0]
        return (resolve_step(c, tokens, 0.0, 0, 0.0, 1e9, 1.0)[0] - base) / all_experts_s

    for tokens in (2, 16, 64):
        if spread > 1e5:
            fraction = 1.0 - math.exp(-tokens * 8 / 128)
        else:
            fraction = 1.0 - (1.0 + tokens * 8 / (128 * spread)) ** -spread
        fraction = max(fraction, 8 / 128)
        assert touched(tokens) == pytest.approx(fraction - max(8 / 128, 0.0), abs=0.02)


def test_one_token_visits_exactly_its_top_k_experts():
    for name in ("mixtral_8x7b", "olmoe_1b_7b", "qwen3_30b_a3b"):
        c, model = vector("h100_sxm", name, Parallelism()), catalog.build("model", name)
        missed = (1.0 + c.token_density) ** -c.popularity_spread
        touched = model.experts * (1.0 - min(missed, c.missed_by_one))
        assert touched == pytest.approx(model.top_k)


def test_tensor_parallelism_divides_work_and_adds_communication():
    one, four = (vector("h100_sxm", "llama31_8b", Parallelism(n)) for n in (1, 4))
    assert four.dense_memory_s == pytest.approx(one.dense_memory_s / 4)
    assert one.traffic_s == 0.0
    assert four.traffic_s > 0.0
    assert four.links_s > one.links_s == 0.0


def test_communication_across_nodes_is_slower():
    near = vector("a100_sxm4_80gb", "qwen15_moe_a27b", Parallelism(1, 4, 4, 4))
    far = vector("a100_sxm4_80gb", "qwen15_moe_a27b", Parallelism(1, 8, 8, 4))
    assert far.traffic_s > 3.0 * near.traffic_s


@pytest.mark.parametrize(("ranks", "value"), [(1, 0.0), (2, 0.5642), (4, 1.0294), (8, 1.4236)])
def test_expected_maximum_of_normal_draws(ranks, value):
    assert expected_maximum(ranks) == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"tensor": 0}, "server.tensor_parallel"),
        ({"expert": 8}, "server.expert_parallel"),
        ({"tensor": 2, "data": 2, "expert": 3}, "server.expert_parallel"),
    ],
)
def test_impossible_parallelism_names_the_key(values, key):
    with pytest.raises(ConfigurationError, match=key):
        Parallelism(**values)


def test_the_energy_of_weights_goes_with_the_bytes_that_move() -> None:
    """Half as many in FP8; what has no tensor cores is expanded to bf16 on its way."""
    h100, b200 = catalog.build("gpu", "h100_sxm"), catalog.build("gpu", "b200")
    assert [moved_bytes(h100, name) for name in ("bf16", "fp8", "fp8_block")] == [2.0, 1.0, 1.0]
    assert moved_bytes(b200, "mxfp4") == pytest.approx(4.25 / 8)
    assert moved_bytes(h100, "mxfp4") == pytest.approx(0.5 * (4.25 / 8 + 2.0))
    model = catalog.build("model", "llama31_70b")
    eight_bit = replace(model, weight_precision="fp8")
    k = Calibration(compute_power_w_per_tflop_s=0.0, activation_power_w_per_tb_s=0.0)
    whole, half = (compile_step_model(h100, m, Parallelism(4), k) for m in (model, eight_bit))
    head = k.weight_power_w_per_tb_s * 1e-12 * 2.0 * model.head_params / 4
    assert half.weight_j - head == pytest.approx(0.5 * (whole.weight_j - head))


def test_attention_that_no_cuda_graph_holds_costs_host_time_per_layer() -> None:
    gpu, model = catalog.build("gpu", "h100_sxm"), catalog.build("model", "llama4_scout")
    k = Calibration(chunked_layer_s=1e-3, host_overlap=0.0)
    plain = replace(model, chunked_attention=False)
    step, graphed = (
        resolve_step(compile_step_model(gpu, m, Parallelism(8), k), 8, 4e3, 0, 0, 1e9, 1.0)[0]
        for m in (model, plain)
    )
    assert step - graphed == pytest.approx(48 * 1e-3, rel=1e-6)
