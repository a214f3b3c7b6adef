"""Power of a GPU: what draws it at the highest clock, and how it follows the clock.

At the highest clock ``P = static + (busy power x kernel time + energy of the work) / time``.
At clock share ``x`` the part above a floor shrinks by ``g(x) = s x + (1 - s) x^m``: linear in
the clock while the voltage stays at its minimum, steep where the voltage rises. Below a knee
the clock also slows memory reads down.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from envs.simulator.calibration import Calibration, unchecked
from envs.simulator.gpus import GPUSpec
from envs.simulator.models import WEIGHT_BYTES, ModelSpec
from envs.simulator.parallelism import Parallelism
from envs.simulator.roofline import (
    activation_bytes,
    attention_flops,
    expert_split,
    kv_bytes_per_gpu,
    state_bytes_per_gpu,
)
from envs.simulator.step_layout import TABLE_CELLS, StepModel

_FINE = 64
_ANY = Calibration()


def power_fraction(clock: NDArray[np.float64], k: Calibration) -> NDArray[np.float64]:
    """Returns the fraction of the power above the floor that is left at a clock share."""
    linear = k.clock_linear_fraction * clock
    fraction: NDArray[np.float64] = (
        linear + (1.0 - k.clock_linear_fraction) * clock**k.clock_exponent
    )
    return fraction


def memory_slowdown(clock: NDArray[np.float64], k: Calibration) -> NDArray[np.float64]:
    """Returns by how much memory reads take longer at a clock share than at the highest."""
    knee, sharpness = k.memory_clock_knee, k.memory_clock_sharpness
    slower: NDArray[np.float64] = (1.0 + (knee / clock) ** sharpness) / (1.0 + knee**sharpness)
    return slower ** (1.0 / sharpness)


@lru_cache(maxsize=64)
def _clock_tables(
    lowest: float, linear: float, exponent: float, knee: float, sharpness: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    k = unchecked(
        _ANY,
        {
            "clock_linear_fraction": linear,
            "clock_exponent": exponent,
            "memory_clock_knee": knee,
            "memory_clock_sharpness": sharpness,
        },
    )
    clocks = np.linspace(lowest, 1.0, TABLE_CELLS + 1)
    fine = np.linspace(lowest, 1.0, _FINE * TABLE_CELLS + 1)
    curve = power_fraction(clocks, k)
    fractions = np.linspace(curve[0], 1.0, TABLE_CELLS + 1)
    return curve, np.interp(fractions, power_fraction(fine, k), fine), memory_slowdown(clocks, k)


def moved_bytes(gpu: GPUSpec, precision: str) -> float:
    """Returns the bytes by which the energy of reading a weight counts.

    Kernels in bf16 and in FP8 draw the same per byte. A format for which the GPU has no tensor
    cores is expanded to bf16, so that the second half of the way, from the cache on, moves more.
    """
    stored = WEIGHT_BYTES[precision]
    return 0.5 * (stored + (stored if gpu.computes(precision) else WEIGHT_BYTES["bf16"]))


def fill_power(
    c: StepModel,
    gpu: GPUSpec,
    model: ModelSpec,
    parallelism: Parallelism,
    k: Calibration,
) -> None:
    """Writes energies, powers and the tables over the clock into the record ``c``."""
    tera = 1e-12
    tensor = parallelism.tensor
    compute = tera * k.compute_power_w_per_tflop_s
    kv = tera * k.kv_power_w_per_tb_s
    c.busy_w = k.busy_power_w
    dense = model.dense_params * moved_bytes(gpu, model.weight_precision)
    head = model.head_params * moved_bytes(gpu, "bf16")
    c.weight_j = tera * k.weight_power_w_per_tb_s * (dense + head) / tensor
    c.kv_j = kv * kv_bytes_per_gpu(model, parallelism)
    if model.latent_kv_rank:
        c.kv_j += compute * attention_flops(model, parallelism, cached=True)
    c.state_j = kv * state_bytes_per_gpu(model, parallelism)
    moved = k.activation_fraction * activation_bytes(model, parallelism)
    c.token_j = compute * 2.0 * model.dense_params / tensor
    c.token_j += tera * k.activation_power_w_per_tb_s * moved
    c.row_j = compute * 2.0 * model.head_params / tensor
    c.pair_j = compute * attention_flops(model, parallelism, cached=False)
    if model.experts:
        expert = model.moe_layers * model.params_per_expert / expert_split(parallelism)
        moved = moved_bytes(gpu, model.expert_precision)
        c.expert_j = tera * k.expert_weight_power_w_per_tb_s * moved * expert
        c.choice_j = compute * 2.0 * expert
    c.idle_w = gpu.idle_power_w
    c.static_w = k.static_power_w
    c.floor_w = k.clock_power_floor_w
    c.warming = min(0.5, k.static_power_w * k.leakage_per_k * k.heating_k_per_w)
    c.min_clock = gpu.min_clock_fraction
    tables = _clock_tables(
        gpu.min_clock_fraction,
        k.clock_linear_fraction,
        k.clock_exponent,
        k.memory_clock_knee,
        k.memory_clock_sharpness,
    )
    c.power_curve[:], c.inverse_curve[:], c.slowdown[:] = tables
