"""Time and power of one engine step: a fixed vector of numbers and two compiled functions.

:func:`compile_step_model` folds GPU, model, parallelism and calibration into one vector;
:func:`resolve_step` is what the engine calls for every step. ``docs/physics.md`` derives the
equations.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from envs.simulator.calibration import Calibration
from envs.simulator.gpus import GPUSpec
from envs.simulator.models import ModelSpec
from envs.simulator.parallelism import Parallelism

__all__ = ["COEFFICIENTS", "Parallelism", "compile_step_model", "idle_power_w", "resolve_step"]

TABLE = 256
"""Cells of the clock tables."""
(
    FIXED_S, MIXED_S, SEQUENCE_S, TRAFFIC_S, OVERLAP,
    DENSE_MEM_S, DENSE_FLOP_S, HEAD_MEM_S, HEAD_FLOP_S, ACT_MEM_S,
    KV_MEM_S, KV_STATE_S, WINDOW, WINDOW_SHARE, PAIR_FLOP_S,
    EXPERT_MEM_S, EXPERT_FLOP_S, EXPERTS, CHOICES, SPREAD, RANK_EXPERTS, RANK_Z, RANKS, MEETING,
    IDLE_W, STATIC_W, BUSY_W, WEIGHT_J, HEAD_J, EXPERT_J, KV_J, STATE_J, ACT_J,
    DENSE_FLOP_J, HEAD_FLOP_J, EXPERT_FLOP_J, PAIR_J,
    FLOOR_W, CAP_MAX_W, MIN_CLOCK,
) = range(40)  # fmt: skip
_CURVE = 48
_INVERSE = _CURVE + TABLE + 1
_SLOWDOWN = _INVERSE + TABLE + 1
COEFFICIENTS = _SLOWDOWN + TABLE + 1
"""Length of the vector."""

_RANK_MAXIMUM = {1: 0.0, 2: 0.5642, 4: 1.0294, 8: 1.4236}
"""Expected maximum of n standard normal draws."""


def expected_maximum(ranks: int) -> float:
    """Returns the expected maximum of ``ranks`` standard normal draws."""
    if ranks in _RANK_MAXIMUM:
        return _RANK_MAXIMUM[ranks]
    grid = np.linspace(-8.0, 8.0, 4001)
    below = np.array([0.5 * (1.0 + math.erf(x / math.sqrt(2.0))) for x in grid]) ** ranks
    return float(np.trapezoid(1.0 - below, grid) - 8.0)


def compile_step_model(
    gpu: GPUSpec, model: ModelSpec, parallelism: Parallelism, calibration: Calibration
) -> NDArray[np.float64]:
    """Folds everything that stays the same from step to step into one vector.

    Args:
        gpu: GPU type.
        model: Model.
        parallelism: How the model is spread over GPUs.
        calibration: Coefficients of the GPU type.

    Returns:
        Vector of shape ``(COEFFICIENTS,)`` for :func:`resolve_step` and :func:`idle_power_w`.
    """
    c = np.zeros(COEFFICIENTS)
    k = calibration
    tensor = parallelism.tensor
    shards = parallelism.expert_shards
    meeting = parallelism.replicas_per_expert_group
    bandwidth = 1e12 * gpu.memory_bandwidth_tb_s
    dense_fp8 = model.weight_precision.startswith("fp8")
    expert_fp8 = model.expert_precision.startswith("fp8")
    dense_bw = bandwidth * k.bandwidth_efficiency * (k.fp8_bandwidth_factor if dense_fp8 else 1)
    expert_bw = bandwidth * k.expert_bandwidth_efficiency
    expert_bw *= k.fp8_expert_bandwidth_factor if expert_fp8 else 1.0
    dense_flops = gpu.flops(model.weight_precision) * k.flops_efficiency
    dense_flops *= k.fp8_flops_factor if dense_fp8 else 1.0
    expert_flops = gpu.flops(model.expert_precision) * k.expert_flops_efficiency
    expert_flops *= k.fp8_flops_factor if expert_fp8 else 1.0
    bf16 = gpu.flops("bf16")

    block_layers = model.layers if model.weight_precision == "fp8_block" else 0
    ring = 2.0 * (tensor - 1) / tensor
    c[FIXED_S] = (
        k.step_s + k.layer_s * model.layers + k.moe_layer_s * model.moe_layers
        + k.block_fp8_layer_s * block_layers
    )  # fmt: skip
    if tensor > 1:
        c[FIXED_S] += 2 * model.layers * k.all_reduce_s * (1 + math.log2(tensor))
        link = 1e9 * gpu.link_bandwidth_gb_s * k.link_efficiency
        if tensor > parallelism.gpus_per_node:
            nodes = tensor / parallelism.gpus_per_node
            link = 1e9 * gpu.network_bandwidth_gb_s * k.network_efficiency
            c[FIXED_S] += 2 * model.layers * k.network_latency_s * math.log2(nodes)
        c[TRAFFIC_S] = 2 * model.layers * ring * 2.0 * model.hidden / link
    if meeting > 1 and model.experts:
        link = 1e9 * gpu.link_bandwidth_gb_s * k.link_efficiency
        latency = k.all_reduce_s * (1 + math.log2(shards))
        if shards > parallelism.gpus_per_node:
            link = 1e9 * gpu.network_bandwidth_gb_s * k.network_efficiency
            latency += k.network_latency_s * math.log2(shards / parallelism.gpus_per_node)
        c[FIXED_S] += 2 * model.moe_layers * latency
        exchange = 2.0 * model.hidden * model.top_k * (shards - 1) / shards / tensor
        c[TRAFFIC_S] += 2 * model.moe_layers * exchange / link
    c[MIXED_S] = k.mixed_step_s
    c[SEQUENCE_S] = k.sequence_s * model.vocab / 150e3
    c[OVERLAP] = k.overlap

    kv_heads = 1 if model.latent_kv_rank else min(tensor, model.kv_heads)
    kv_bytes = model.kv_bytes_per_token / kv_heads
    state_bytes = 2.0 * model.linear_layers * model.linear_state_bytes / tensor
    activation_bytes = k.activation_share * 2.0 * (
        8.0 * model.layers * model.hidden
        + model.moe_layers * model.top_k
        * (2 * model.hidden + 3 * model.expert_intermediate) * meeting / shards
    )  # fmt: skip
    head_width = model.head_dim
    if model.latent_kv_rank:
        head_width = model.latent_nope_dim + model.latent_rope_dim
    pair_flops = 4.0 * model.attention_layers * model.heads * head_width / tensor
    dense_flop = 2.0 * model.dense_params / tensor
    head_flop = 2.0 * model.head_params / tensor
    expert_flop = 2.0 * model.moe_layers * model.params_per_expert / max(1.0, shards)
    c[DENSE_MEM_S] = model.dense_bytes / tensor / dense_bw
    c[DENSE_FLOP_S] = dense_flop / dense_flops
    c[HEAD_MEM_S] = model.head_bytes / tensor / (bandwidth * k.bandwidth_efficiency)
    c[HEAD_FLOP_S] = head_flop / (bf16 * k.flops_efficiency)
    c[ACT_MEM_S] = activation_bytes / bandwidth
    c[KV_MEM_S] = kv_bytes / (bandwidth * k.kv_bandwidth_efficiency)
    c[KV_STATE_S] = state_bytes / (bandwidth * k.kv_bandwidth_efficiency)
    c[WINDOW] = model.sliding_window_tokens
    c[WINDOW_SHARE] = model.sliding_window_share if model.sliding_window_tokens else 0.0
    c[PAIR_FLOP_S] = pair_flops / (bf16 * k.attention_flops_efficiency)

    if model.experts:
        rank_experts = model.experts / parallelism.expert
        split = shards / parallelism.expert
        expert_bytes = model.expert_bytes / model.experts / split
        c[EXPERT_MEM_S] = expert_bytes / expert_bw
        c[EXPERT_FLOP_S] = expert_flop * shards / split / expert_flops
        c[EXPERTS] = model.experts
        c[CHOICES] = model.top_k
        c[SPREAD] = k.popularity_spread
        c[RANK_EXPERTS] = rank_experts
        c[RANK_Z] = expected_maximum(parallelism.expert)
        c[RANKS] = parallelism.expert
        c[MEETING] = meeting
        c[EXPERT_J] = k.weight_power_w_per_tb_s * 1e-12 * expert_bytes
        c[EXPERT_FLOP_J] = k.compute_power_w_per_tflop_s * 1e-12 * expert_flop * shards / split

    c[IDLE_W] = gpu.idle_power_w
    c[STATIC_W] = k.static_power_w
    c[BUSY_W] = k.busy_power_w
    c[WEIGHT_J] = k.weight_power_w_per_tb_s * 1e-12 * model.dense_bytes / tensor
    c[HEAD_J] = k.weight_power_w_per_tb_s * 1e-12 * model.head_bytes / tensor
    c[KV_J] = k.kv_power_w_per_tb_s * 1e-12 * kv_bytes
    c[STATE_J] = k.kv_power_w_per_tb_s * 1e-12 * state_bytes
    c[ACT_J] = k.activation_power_w_per_tb_s * 1e-12 * activation_bytes
    c[DENSE_FLOP_J] = k.compute_power_w_per_tflop_s * 1e-12 * dense_flop
    c[HEAD_FLOP_J] = k.compute_power_w_per_tflop_s * 1e-12 * head_flop
    c[PAIR_J] = k.compute_power_w_per_tflop_s * 1e-12 * pair_flops
    c[FLOOR_W] = k.clock_power_floor_w
    c[CAP_MAX_W] = gpu.power_cap_max_w
    c[MIN_CLOCK] = gpu.min_clock_share
    _fill_clock_tables(c, k)
    return c


def _fill_clock_tables(c: NDArray[np.float64], k: Calibration) -> None:
    clocks = np.linspace(c[MIN_CLOCK], 1.0, TABLE + 1)
    curve = k.clock_linear_share * clocks + (1 - k.clock_linear_share) * clocks**k.clock_exponent
    c[_CURVE : _CURVE + TABLE + 1] = curve
    shares = np.linspace(curve[0], 1.0, TABLE + 1)
    fine = np.linspace(c[MIN_CLOCK], 1.0, 100 * TABLE + 1)
    fine_curve = k.clock_linear_share * fine + (1 - k.clock_linear_share) * fine**k.clock_exponent
    c[_INVERSE : _INVERSE + TABLE + 1] = np.interp(shares, fine_curve, fine)
    knee, sharpness = k.memory_clock_knee, k.memory_clock_sharpness
    slow = (1 + (knee / clocks) ** sharpness) / (1 + knee**sharpness)
    c[_SLOWDOWN : _SLOWDOWN + TABLE + 1] = slow ** (1 / sharpness)


@njit(cache=True, nogil=True)
def idle_power_w(c: NDArray[np.float64]) -> float:
    """Returns the power of one GPU, in watts, with the model loaded and nothing to do."""
    return c[IDLE_W]


@njit(cache=True, nogil=True, inline="always")
def _join(a: float, b: float, overlap: float) -> float:
    half = 0.5 * (a - b)
    return 0.5 * (a + b) + math.sqrt(half * half + overlap * a * b)


@njit(cache=True, nogil=True, inline="always")
def _lookup(c: NDArray[np.float64], start: int, low: float, x: float) -> float:
    position = (x - low) / (1.0 - low) * TABLE
    if position <= 0.0:
        return c[start]
    if position >= TABLE:
        return c[start + TABLE]
    cell = int(position)
    share = position - cell
    return c[start + cell] * (1.0 - share) + c[start + cell + 1] * share


@njit(cache=True, nogil=True)
def resolve_step(
    c: NDArray[np.float64],
    decode_seqs: float,
    context_tokens: float,
    prefill_tokens: float,
    prefill_pairs: float,
    cap_w: float,
    clock_limit: float,
) -> tuple[float, float, float, float]:
    """Returns the time and power of one engine step under a power cap and a clock limit.

    Args:
        c: Vector from :func:`compile_step_model`.
        decode_seqs: Sequences of one data-parallel replica that decode one token each.
        context_tokens: Tokens that these sequences have cached, in all.
        prefill_tokens: Prompt tokens computed in the same step.
        prefill_pairs: Sum over these prompt tokens of the tokens each attends to.
        cap_w: Power cap of each GPU in watts.
        clock_limit: Highest clock allowed, as a share of the highest clock there is.

    Returns:
        ``(time_s, power_w, clock, cap_binding)``: seconds, mean watts of one GPU over the
        step, the clock as a share of the highest, and 1.0 where the cap set the clock.
    """
    tokens = decode_seqs + prefill_tokens
    rows = decode_seqs
    fixed = c[FIXED_S] + c[SEQUENCE_S] * decode_seqs + c[TRAFFIC_S] * tokens
    if prefill_tokens > 0.0:
        rows += 1.0
        fixed += c[MIXED_S]
    kv_tokens = context_tokens
    if c[WINDOW_SHARE] > 0.0 and context_tokens > c[WINDOW] * decode_seqs:
        kv_tokens += c[WINDOW_SHARE] * (c[WINDOW] * decode_seqs - context_tokens)

    dense_mem = c[DENSE_MEM_S]
    dense_flop = c[DENSE_FLOP_S] * tokens
    head_mem = c[HEAD_MEM_S]
    head_flop = c[HEAD_FLOP_S] * rows
    stream = c[ACT_MEM_S] * tokens + c[KV_MEM_S] * kv_tokens + c[KV_STATE_S] * decode_seqs
    pair_flop = c[PAIR_FLOP_S] * prefill_pairs
    energy = (
        c[WEIGHT_J] + c[HEAD_J] + c[KV_J] * kv_tokens + c[STATE_J] * decode_seqs
        + c[ACT_J] * tokens + c[DENSE_FLOP_J] * tokens + c[HEAD_FLOP_J] * rows
        + c[PAIR_J] * (prefill_pairs + context_tokens)
    )  # fmt: skip
    expert_mem = 0.0
    expert_flop = 0.0
    share_worked = 1.0
    if c[EXPERTS] > 0.0:
        choices = tokens * c[MEETING] * c[CHOICES]
        spread = c[SPREAD]
        coverage = 1.0 - (1.0 + choices / (c[EXPERTS] * spread)) ** -spread
        touched = coverage * c[RANK_EXPERTS]
        routed = choices / c[RANKS]
        worst = min(touched + c[RANK_Z] * math.sqrt(touched * (1.0 - coverage)), c[RANK_EXPERTS])
        expert_mem = c[EXPERT_MEM_S] * worst
        expert_flop = c[EXPERT_FLOP_S] * (routed + c[RANK_Z] * math.sqrt(routed))
        energy += c[EXPERT_J] * touched + c[EXPERT_FLOP_J] * routed
        share_worked = touched / worst if worst > 0.0 else 1.0

    overlap = c[OVERLAP]
    kernel = (
        stream + pair_flop
        + _join(dense_mem, dense_flop, overlap) + _join(head_mem, head_flop, overlap)
    )  # fmt: skip
    expert_time = _join(expert_mem, expert_flop, overlap)
    time = kernel + expert_time + fixed
    busy = kernel + expert_time * share_worked
    natural = c[STATIC_W] + (energy + c[BUSY_W] * busy) / time

    cap = min(cap_w, c[CAP_MAX_W])
    clock = min(max(clock_limit, c[MIN_CLOCK]), 1.0)
    floor = min(c[FLOOR_W], natural)
    dynamic = natural - floor
    low = c[_CURVE]
    power = natural
    if clock < 1.0:
        power = floor + dynamic * _lookup(c, _CURVE, c[MIN_CLOCK], clock)
    binding = 0.0
    if power > cap:
        binding = 1.0
        share = (cap - floor) / dynamic if dynamic > 0.0 else 0.0
        clock = min(clock, _lookup(c, _INVERSE, low, share))
        power = floor + dynamic * low if share <= low else cap
    if clock < 1.0:
        slow = _lookup(c, _SLOWDOWN, c[MIN_CLOCK], clock)
        inverse = 1.0 / clock
        time = (
            fixed + stream * slow + pair_flop * inverse
            + _join(dense_mem * slow, dense_flop * inverse, overlap)
            + _join(head_mem * slow, head_flop * inverse, overlap)
            + _join(expert_mem * slow, expert_flop * inverse, overlap)
        )  # fmt: skip
    return time, power, clock, binding
