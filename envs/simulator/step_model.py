"""Time and power of one engine step: a fixed vector of numbers and two compiled functions.

:func:`compile_step_model` folds GPU, model, parallelism and calibration into one vector;
:func:`resolve_step` is what the engine calls for every step. ``docs/physics.md`` derives the
equations and gives the coefficients.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from envs.compiled.jit import entry_point, inlined
from envs.simulator import step_layout as at
from envs.simulator.calibration import Calibration
from envs.simulator.gpus import GPUSpec
from envs.simulator.models import ModelSpec
from envs.simulator.parallelism import Parallelism
from envs.simulator.power import fill_power
from envs.simulator.roofline import fill_work
from envs.simulator.step_layout import COEFFICIENTS, IDLE_W

__all__ = [
    "COEFFICIENTS",
    "IDLE_W",
    "Parallelism",
    "compile_step_model",
    "idle_power_w",
    "resolve_step",
]


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
    fill_work(c, gpu, model, parallelism, calibration)
    fill_power(c, gpu, model, parallelism, calibration)
    return c


@entry_point()
def idle_power_w(c: NDArray[np.float64]) -> float:
    """Returns the power of one GPU, in watts, with the model loaded and nothing to do."""
    idle: float = c[at.IDLE_W]
    return idle


@inlined
def _join(memory: float, compute: float, overlap: float) -> float:
    """Combines memory and compute time: their maximum at ``overlap`` 0, their sum at 1."""
    half = 0.5 * (memory - compute)
    return 0.5 * (memory + compute) + math.sqrt(half * half + overlap * memory * compute)


@inlined
def _lookup(c: NDArray[np.float64], start: int, low: float, x: float) -> float:
    """Interpolates the table at ``start``, which spans ``low`` to 1."""
    position = min(max((x - low) / (1.0 - low) * at.TABLE_CELLS, 0.0), at.TABLE_CELLS - 1e-9)
    cell = int(position)
    left: float = c[start + cell]
    right: float = c[start + cell + 1]
    return left + (position - cell) * (right - left)


@entry_point()
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
    fixed = c[at.HOST_S] + c[at.SEQUENCE_S] * decode_seqs + c[at.TRAFFIC_S] * tokens
    if prefill_tokens > 0.0:
        rows += 1.0
        fixed += c[at.MIXED_S]
    kv_tokens = context_tokens
    if c[at.WINDOW_FRACTION] > 0.0 and context_tokens > c[at.WINDOW_TOKENS] * decode_seqs:
        beyond = context_tokens - c[at.WINDOW_TOKENS] * decode_seqs
        kv_tokens -= c[at.WINDOW_FRACTION] * beyond

    overlap = c[at.OVERLAP]
    dense_memory = c[at.DENSE_MEMORY_S]
    dense_compute = c[at.DENSE_COMPUTE_S] * tokens
    head_memory = c[at.HEAD_MEMORY_S]
    head_compute = c[at.HEAD_COMPUTE_S] * rows
    kv_memory = c[at.KV_MEMORY_S] * kv_tokens
    kv_compute = c[at.KV_COMPUTE_S] * kv_tokens
    stream = c[at.ACTIVATION_S] * tokens + c[at.STATE_S] * decode_seqs
    pair_compute = c[at.PAIR_COMPUTE_S] * prefill_pairs
    energy = (
        c[at.WEIGHT_J] + c[at.KV_J] * kv_tokens + c[at.STATE_J] * decode_seqs
        + c[at.TOKEN_J] * tokens + c[at.ROW_J] * rows + c[at.PAIR_J] * prefill_pairs
    )  # fmt: skip
    expert_memory = 0.0
    expert_compute = 0.0
    at_work = 1.0
    if c[at.EXPERTS] > 0.0:
        meeting = tokens * c[at.MEETING]
        missed = (1.0 + meeting * c[at.TOKEN_DENSITY]) ** -c[at.POPULARITY_SPREAD]
        missed = min(missed, c[at.MISSED_BY_ONE])
        touched = (1.0 - missed) * c[at.EXPERTS_PER_RANK]
        routed = meeting * c[at.TOP_K] / c[at.RANKS]
        worst = touched + c[at.RANK_MAXIMUM] * math.sqrt(touched * missed)
        worst = min(worst, c[at.EXPERTS_PER_RANK])
        expert_memory = c[at.EXPERT_MEMORY_S] * worst
        most_routed = routed + c[at.RANK_MAXIMUM] * math.sqrt(routed)
        expert_compute = c[at.EXPERT_COMPUTE_S] * most_routed
        energy += c[at.EXPERT_J] * touched + c[at.CHOICE_J] * routed
        if worst > 0.0:
            at_work = touched / worst

    launch = c[at.LAUNCH_S]
    small_kernels = c[at.BLOCK_S] + c[at.SAMPLING_S] * decode_seqs
    kernels = (
        stream + pair_compute + small_kernels
        + _join(dense_memory, dense_compute, overlap)
        + _join(head_memory, head_compute, overlap)
        + _join(kv_memory, kv_compute, overlap)
    )  # fmt: skip
    experts = _join(expert_memory, expert_compute, overlap)
    time = fixed + launch + kernels + experts
    natural = c[at.STATIC_W] + (energy + c[at.BUSY_W] * (kernels + experts * at_work)) / time

    cap = min(cap_w, c[at.CAP_MAX_W])
    lowest = c[at.MIN_CLOCK]
    clock = min(max(clock_limit, lowest), 1.0)
    floor = min(c[at.FLOOR_W], natural)
    above = natural - floor
    power = natural
    if clock < 1.0:
        power = floor + above * _lookup(c, at.POWER_CURVE, lowest, clock)
    binding = 0.0
    if power > cap:
        binding = 1.0
        least = c[at.POWER_CURVE]
        fraction = (cap - floor) / above if above > 0.0 else 0.0
        clock = min(clock, _lookup(c, at.INVERSE_CURVE, least, fraction))
        power = max(cap, floor + above * least)
    if clock < 1.0:
        slow = _lookup(c, at.SLOWDOWN, lowest, clock)
        longer = 1.0 / clock
        time = (
            fixed + stream * slow + pair_compute * longer
            + (launch + small_kernels) * (1.0 + c[at.LAUNCH_CLOCK_FRACTION] * (longer - 1.0))
            + _join(dense_memory * slow, dense_compute * longer, overlap)
            + _join(head_memory * slow, head_compute * longer, overlap)
            + _join(kv_memory * slow, kv_compute * longer, overlap)
            + _join(expert_memory * slow, expert_compute * longer, overlap)
        )  # fmt: skip
    return time, power, clock, binding
