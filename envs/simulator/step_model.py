"""Time and power of one engine step: a record of numbers and two compiled functions.

:func:`compile_step_model` folds GPU, model, parallelism and calibration into one record;
:func:`resolve_step` is what the engine calls for every step. ``docs/physics.md`` derives the
equations and gives the coefficients.
"""

from __future__ import annotations

import math

import numpy as np

from envs.compiled.jit import entry_point, inlined
from envs.compiled.records import Floats
from envs.simulator.calibration import Calibration
from envs.simulator.gpus import GPUSpec
from envs.simulator.joining import joined
from envs.simulator.models import ModelSpec
from envs.simulator.parallelism import Parallelism
from envs.simulator.power import fill_power
from envs.simulator.roofline import fill_work
from envs.simulator.step_layout import STEP_MODEL, TABLE_CELLS, StepModel

_join = inlined(joined)

__all__ = [
    "Parallelism",
    "compile_step_model",
    "idle_power_w",
    "resolve_step",
    "waiting_power_w",
]


def compile_step_model(
    gpu: GPUSpec, model: ModelSpec, parallelism: Parallelism, calibration: Calibration
) -> StepModel:
    """Folds everything that stays the same from step to step into one record.

    Args:
        gpu: GPU type.
        model: Model.
        parallelism: How the model is spread over GPUs.
        calibration: Coefficients of the GPU type.

    Returns:
        Record for :func:`resolve_step` and :func:`idle_power_w`.
    """
    c: StepModel = np.zeros(1, dtype=STEP_MODEL).view(np.recarray)[0]
    fill_work(c, gpu, model, parallelism, calibration)
    fill_power(c, gpu, model, parallelism, calibration)
    return c


@entry_point()
def idle_power_w(c: StepModel) -> float:
    """Returns the power of one GPU, in watts, with the model loaded and nothing to do."""
    return c.idle_w


@entry_point()
def waiting_power_w(c: StepModel) -> float:
    """Returns the power of one GPU, in watts, that waits for others in the midst of a step."""
    return c.static_w


@inlined
def _lookup(table: Floats, low: float, x: float) -> float:
    """Interpolates a table that spans ``low`` to 1."""
    position = min(max((x - low) / (1.0 - low) * TABLE_CELLS, 0.0), TABLE_CELLS - 1e-9)
    cell = int(position)
    left: float = table[cell]
    right: float = table[cell + 1]
    return left + (position - cell) * (right - left)


@entry_point()
def resolve_step(
    c: StepModel,
    decode_seqs: float,
    context_tokens: float,
    prefill_tokens: float,
    prefill_pairs: float,
    cap_w: float,
    clock_limit: float,
    met_tokens: float = -1.0,
) -> tuple[float, float, float, float]:
    """Returns the time and power of one engine step under a power cap and a clock limit.

    Args:
        c: Record from :func:`compile_step_model`.
        decode_seqs: Sequences of one data-parallel replica that decode one token each.
        context_tokens: Tokens that these sequences have cached, in all.
        prefill_tokens: Prompt tokens that the replica computes in the same step.
        prefill_pairs: Sum over these prompt tokens of the tokens each attends to.
        cap_w: Power cap of each GPU in watts.
        clock_limit: Highest clock allowed, as a fraction of the highest clock there is.
        met_tokens: Tokens of all replicas that meet at the same experts; negative where each
            of these replicas has as many as this one.

    Returns:
        ``(time_s, power_w, clock, cap_binding)``: seconds, mean watts of one GPU over the
        step, the clock as a fraction of the highest, and 1.0 where the cap set the clock.
    """
    tokens = decode_seqs + prefill_tokens
    rows = decode_seqs
    host = c.host_s + c.sequence_s * decode_seqs
    links = c.links_s + c.traffic_s * tokens
    pair_compute = 0.0
    if prefill_tokens > 0.0:
        rows += 1.0
        host += c.mixed_s
        pair_compute = (
            c.pair_compute_s * prefill_pairs + c.start_compute_s * prefill_tokens
            + c.wave_compute_s * math.sqrt(prefill_pairs)
        )  # fmt: skip
    least = c.eager_s if tokens > c.graph_tokens else 0.0
    kv_tokens = context_tokens
    if c.window_fraction > 0.0 and context_tokens > c.window_tokens * decode_seqs:
        beyond = context_tokens - c.window_tokens * decode_seqs
        kv_tokens -= c.window_fraction * beyond

    overlap = c.overlap
    dense_memory = c.dense_memory_s + c.dense_memory_token_s * tokens
    dense_compute = c.dense_compute_s + c.dense_compute_token_s * tokens
    head_memory = c.head_memory_s
    head_compute = c.head_compute_s + c.head_compute_row_s * rows
    kv_memory = c.kv_memory_s * kv_tokens
    kv_compute = c.kv_compute_s * kv_tokens
    stream = c.activation_s * tokens + c.state_s * decode_seqs
    energy = (
        c.weight_j + c.kv_j * kv_tokens + c.state_j * decode_seqs
        + c.token_j * tokens + c.row_j * rows + c.pair_j * prefill_pairs
    )  # fmt: skip
    expert_memory = 0.0
    expert_compute = 0.0
    at_work = 1.0
    if c.experts > 0.0:
        meeting = tokens * c.meeting if met_tokens < 0.0 else met_tokens
        missed = (1.0 + meeting * c.token_density) ** -c.popularity_spread
        missed = min(missed, c.missed_by_one)
        touched = (1.0 - missed) * c.experts_per_rank
        routed = meeting * c.top_k / c.ranks
        worst = touched + c.rank_maximum * math.sqrt(touched * missed)
        worst = min(worst, c.experts_per_rank)
        expert_memory = c.expert_memory_s * worst
        most_routed = routed + c.rank_maximum * math.sqrt(routed)
        expert_compute = c.expert_compute_s * most_routed + c.expert_padding_s * worst
        energy += c.expert_j * touched + c.choice_j * routed
        if worst > 0.0:
            at_work = touched / worst

    launch = c.launch_s
    small_kernels = (
        c.kernel_s + c.row_s * decode_seqs + c.moe_token_s * tokens
        + c.sampling_s * decode_seqs * c.sampling_rows / (c.sampling_rows + decode_seqs)
    )  # fmt: skip
    if decode_seqs > 0.0:
        small_kernels += c.length_s * context_tokens / decode_seqs
    kernels = (
        stream + pair_compute + small_kernels
        + _join(dense_memory, dense_compute, overlap)
        + _join(head_memory, head_compute, overlap)
        + _join(kv_memory, kv_compute, overlap)
    )  # fmt: skip
    experts = _join(expert_memory, expert_compute, c.expert_overlap)
    in_turn = 1.0 - c.host_overlap
    time = _join(host, max(links + launch + kernels + experts, least), in_turn)
    natural = c.static_w + (energy + c.busy_w * (kernels + experts * at_work)) / time

    lowest = c.min_clock
    clock = min(max(clock_limit, lowest), 1.0)
    floor = min(c.floor_w, natural)
    above = natural - floor
    power = natural
    if clock < 1.0:
        power = floor + above * _lookup(c.power_curve, lowest, clock)
    binding = 0.0
    if power > cap_w:
        binding = 1.0
        lowest_power = c.power_curve[0]
        fraction = (cap_w - floor) / above if above > 0.0 else 0.0
        clock = min(clock, _lookup(c.inverse_curve, lowest_power, fraction))
        power = max(cap_w, floor + above * lowest_power)
    if clock < 1.0:
        slow = _lookup(c.slowdown, lowest, clock)
        longer = 1.0 / clock
        kernels = (
            stream * slow + pair_compute * longer
            + (launch + small_kernels) * (1.0 + c.launch_clock_fraction * (longer - 1.0))
            + _join(dense_memory * slow, dense_compute * longer, overlap)
            + _join(head_memory * slow, head_compute * longer, overlap)
            + _join(kv_memory * slow, kv_compute * longer, overlap)
            + _join(expert_memory * slow, expert_compute * longer, c.expert_overlap)
        )  # fmt: skip
        time = _join(host, max(links + kernels, least), in_turn)
    return time, power, clock, binding
