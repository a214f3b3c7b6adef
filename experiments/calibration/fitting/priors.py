"""Priors of the coefficients: typical values, and how far they may be off.

The same for every GPU type but where a power scales with the GPU. They keep a coefficient
that the data hardly see (FP8 on an A100) at a sensible value, and keep the others physical: a
model crippled on purpose must not hide its fault in an impossible efficiency.
"""

from __future__ import annotations

from dataclasses import dataclass

from envs.simulator.gpus import GPUSpec


@dataclass(frozen=True)
class Prior:
    """A log-normal prior.

    Attributes:
        centre: Most plausible value.
        deviation: Standard deviation of the logarithm.
    """

    centre: float
    deviation: float


TIME = {
    "bandwidth_efficiency": Prior(0.83, 0.06),
    "kv_bandwidth_efficiency": Prior(0.80, 0.10),
    "expert_bandwidth_efficiency": Prior(0.68, 0.10),
    "flops_efficiency": Prior(0.70, 0.10),
    "expert_flops_efficiency": Prior(0.40, 0.20),
    "fp8_bandwidth_factor": Prior(0.80, 0.15),
    "fp8_flops_factor": Prior(0.60, 0.20),
    "fp8_expert_bandwidth_factor": Prior(0.70, 0.20),
    "overlap": Prior(0.40, 0.30),
    "activation_fraction": Prior(0.60, 0.30),
    "popularity_spread": Prior(0.60, 0.30),
    "layer_s": Prior(9e-6, 0.30),
    "moe_layer_s": Prior(14e-6, 0.50),
    "block_fp8_layer_s": Prior(60e-6, 0.50),
    "step_s": Prior(2.0e-3, 0.50),
    "mixed_step_s": Prior(2.0e-3, 0.70),
    "sequence_s": Prior(15e-6, 0.50),
    "sampling_s": Prior(20e-6, 0.50),
    "all_reduce_s": Prior(6e-6, 0.30),
    "link_efficiency": Prior(0.60, 0.20),
}
"""Priors of the coefficients of time."""

CLOCK = {
    "clock_power_floor_w": Prior(0.27, 0.15),
    "clock_linear_fraction": Prior(0.70, 0.10),
    "clock_exponent": Prior(11.0, 0.40),
    "memory_clock_knee": Prior(0.50, 0.10),
    "memory_clock_sharpness": Prior(2.8, 0.20),
    "launch_clock_fraction": Prior(0.50, 0.30),
    "leakage_per_k": Prior(0.004, 0.50),
}
"""Priors of the response to the clock, fitted where caps were measured; the floor as a fraction
of the highest cap. Floor, linear fraction and exponent lie between those of other GPU types
(:mod:`experiments.calibration.validation.training_caps`); the cap sweep is
the only source for memory."""

LEVEL = Prior(1.0, 0.2)
"""Prior of the level of a run in a cap sweep."""

_BUSY_FRACTION = Prior(0.60, 0.40)
_STATIC_FRACTION = Prior(1.05, 0.06)
_POWER = {
    "weight_power_w_per_tera_s": Prior(15.0, 1.0),
    "expert_weight_power_w_per_tera_s": Prior(50.0, 0.6),
    "kv_power_w_per_tb_s": Prior(80.0, 0.7),
    "activation_power_w_per_tb_s": Prior(150.0, 0.7),
    "compute_power_w_per_tflop_s": Prior(0.45, 0.50),
}


def power_priors(gpu: GPUSpec) -> dict[str, Prior]:
    """Returns the priors of the coefficients of power for a GPU type."""
    room = gpu.power_cap_max_w - gpu.idle_power_w
    return {
        "static_power_w": _scaled(_STATIC_FRACTION, gpu.idle_power_w),
        "busy_power_w": _scaled(_BUSY_FRACTION, room),
        **_POWER,
    }


def clock_priors(gpu: GPUSpec) -> dict[str, Prior]:
    """Returns the priors of the response to the clock for a GPU type."""
    floor = _scaled(CLOCK["clock_power_floor_w"], gpu.power_cap_max_w)
    return {**CLOCK, "clock_power_floor_w": floor}


def _scaled(prior: Prior, unit: float) -> Prior:
    return Prior(prior.centre * unit, prior.deviation)
