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
from envs.simulator.models import ModelSpec
from envs.simulator.parallelism import Parallelism
from envs.simulator.power import fill_power
from envs.simulator.roofline import fill_work
from envs.simulator.step_layout import STEP_MODEL, TABLE_CELLS, StepModel

__all__ = [
    "Parallelism",
    "compile_step_model",
    "idle_power_w",
    "resolve_step",
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


@inlined
def _join(memory: float, compute: float, overlap: float) -> float:
    """Combines memory and compute time: their maximum at ``overlap`` 0, their sum at 1."""
    half = 0.5 * (memory - compute)
    return 0.5 * (memory + compute) + math.sqrt(half * half + overlap * memory * compute)


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

    Returns:
        ``(time_s, power_w, clock, cap_binding)``: seconds, mean watts of one GPU over the
        step, the clock as a fraction of the highest, and 1.0 where the cap set the clock.
    """
    tokens = decode_seqs + prefill_tokens
    rows = decode_seqs
    fixed = c.host_s + c.sequence_s * decode_seqs + c.traffic_s * tokens
    if prefill_tokens > 0.0:
        rows += 1.0
        fixed += c.mixed_s
    kv_tokens = context_tokens
    if c.window_fraction > 0.0 and context_tokens > c.window_tokens * decode_seqs:
        beyond = context_tokens - c.window_tokens * decode_seqs
        kv_tokens -= c.window_fraction * beyond

    overlap = c.overlap
    dense_memory = c.dense_memory_s
    dense_compute = c.dense_compute_s * tokens
    head_memory = c.head_memory_s
    head_compute = c.head_compute_s * rows
    kv_memory = c.kv_memory_s * kv_tokens
    kv_compute = c.kv_compute_s * kv_tokens
    stream = c.activation_s * tokens + c.state_s * decode_seqs
    pair_compute = c.pair_compute_s * prefill_pairs
    energy = (
        c.weight_j + c.kv_j * kv_tokens + c.state_j * decode_seqs
        + c.token_j * tokens + c.row_j * rows + c.pair_j * prefill_pairs
    )  # fmt: skip
    expert_memory = 0.0
    expert_compute = 0.0
    at_work = 1.0
    if c.experts > 0.0:
        meeting = tokens * c.meeting
        missed = (1.0 + meeting * c.token_density) ** -c.popularity_spread
        missed = min(missed, c.missed_by_one)
        touched = (1.0 - missed) * c.experts_per_rank
        routed = meeting * c.top_k / c.ranks
        worst = touched + c.rank_maximum * math.sqrt(touched * missed)
        worst = min(worst, c.experts_per_rank)
        expert_memory = c.expert_memory_s * worst
        most_routed = routed + c.rank_maximum * math.sqrt(routed)
        expert_compute = c.expert_compute_s * most_routed
        energy += c.expert_j * touched + c.choice_j * routed
        if worst > 0.0:
            at_work = touched / worst

    launch = c.launch_s
    small_kernels = c.block_s + c.sampling_s * decode_seqs
    kernels = (
        stream + pair_compute + small_kernels
        + _join(dense_memory, dense_compute, overlap)
        + _join(head_memory, head_compute, overlap)
        + _join(kv_memory, kv_compute, overlap)
    )  # fmt: skip
    experts = _join(expert_memory, expert_compute, overlap)
    time = fixed + launch + kernels + experts
    natural = c.static_w + (energy + c.busy_w * (kernels + experts * at_work)) / time

    cap = min(cap_w, c.cap_max_w)
    lowest = c.min_clock
    clock = min(max(clock_limit, lowest), 1.0)
    floor = min(c.floor_w, natural)
    above = natural - floor
    power = natural
    if clock < 1.0:
        power = floor + above * _lookup(c.power_curve, lowest, clock)
    binding = 0.0
    if power > cap:
        binding = 1.0
        least = c.power_curve[0]
        fraction = (cap - floor) / above if above > 0.0 else 0.0
        clock = min(clock, _lookup(c.inverse_curve, least, fraction))
        power = max(cap, floor + above * least)
    if clock < 1.0:
        slow = _lookup(c.slowdown, lowest, clock)
        longer = 1.0 / clock
        time = (
            fixed + stream * slow + pair_compute * longer
            + (launch + small_kernels) * (1.0 + c.launch_clock_fraction * (longer - 1.0))
            + _join(dense_memory * slow, dense_compute * longer, overlap)
            + _join(head_memory * slow, head_compute * longer, overlap)
            + _join(kv_memory * slow, kv_compute * longer, overlap)
            + _join(expert_memory * slow, expert_compute * longer, overlap)
        )  # fmt: skip
    return time, power, clock, binding
