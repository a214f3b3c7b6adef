"""Priors of the coefficients: typical values, and how far they may be off.

The same for every GPU type but where a power scales with the GPU. They keep a coefficient
that the data hardly see (FP8 on an A100) at a sensible value, and keep the others physical: a
model crippled on purpose must not hide its fault in an impossible efficiency.
"""

from __future__ import annotations

from collections.abc import Mapping
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


KERNEL = {
    "product_s": Prior(3e-6, 0.5),
    "product_depth_s": Prior(2.5e-10, 1.0),
    "bandwidth_efficiency": Prior(0.85, 0.10),
    "flops_efficiency": Prior(0.80, 0.15),
    "overlap": Prior(0.10, 1.0),
    "wave_outputs": Prior(1e5, 1.0),
    "fp8_bandwidth_factor": Prior(0.90, 0.20),
    "fp8_flops_factor": Prior(0.80, 0.20),
    "fp8_activation_bytes": Prior(6.0, 0.50),
    "fp8_columns": Prior(1000.0, 0.70),
    "moe_layer_s": Prior(25e-6, 0.50),
    "moe_token_s": Prior(4e-8, 1.0),
    "expert_bandwidth_efficiency": Prior(0.90, 0.10),
    "expert_flops_efficiency": Prior(0.50, 0.30),
    "expert_overlap": Prior(0.80, 0.5),
    "expert_padding_tokens": Prior(8.0, 0.5),
    "fp8_expert_bandwidth_factor": Prior(0.95, 0.15),
    "fp8_expert_flops_factor": Prior(0.60, 0.30),
    "attention_layer_s": Prior(10e-6, 0.5),
    "attention_row_s": Prior(1e-11, 1.0),
    "attention_length_s": Prior(2e-10, 1.0),
    "kv_bandwidth_efficiency": Prior(0.85, 0.10),
    "attention_flops_efficiency": Prior(0.90, 0.20),
    "attention_width": Prior(60.0, 0.5),
    "attention_start_tokens": Prior(350.0, 0.5),
    "attention_wave_rows": Prior(7e3, 1.0),
    "all_reduce_s": Prior(5e-6, 0.5),
    "link_efficiency": Prior(0.50, 0.4),
}
"""Priors of what prices single kernels. They leave room for whatever a table says, and hold what
none says near the values of GPU types that have one."""

SERVER = {
    "activation_fraction": Prior(0.60, 0.30),
    "popularity_spread": Prior(0.80, 0.30),
    "layer_s": Prior(9e-6, 0.30),
    "block_fp8_layer_s": Prior(70e-6, 0.50),
    "step_s": Prior(1.5e-3, 0.50),
    "mixed_step_s": Prior(2.0e-3, 0.70),
    "sequence_s": Prior(20e-6, 0.80),
    "sampling_s": Prior(30e-6, 0.70),
    "sampling_rows": Prior(400.0, 0.50),
    "eager_layer_s": Prior(0.2e-3, 0.70),
    "eager_moe_layer_s": Prior(0.2e-3, 0.70),
    "chunked_layer_s": Prior(0.05e-3, 0.40),
    "all_reduce_s": Prior(8e-6, 0.50),
    "link_efficiency": Prior(0.60, 0.30),
}
"""Priors of the coefficients of time that only whole servers show. Collectives are among them: a
rank also waits for the others, and links differ between machines more than GPUs do. What attention
outside of CUDA graphs costs the host is some 2 ms for 48 layers (vLLM, pull request 21761)."""

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

CLOCK_CURVE = ("clock_power_floor_w", "clock_linear_fraction", "clock_exponent")
"""Of these, what says how power follows the clock."""

LEVEL = Prior(1.0, 0.2)
"""Prior of the level of a run in a cap sweep."""

_BUSY_FRACTION = Prior(0.50, 0.30)
_STATIC_FRACTION = Prior(1.05, 0.06)
_POWER = {
    "weight_power_w_per_tb_s": Prior(30.0, 1.0),
    "expert_weight_power_w_per_tb_s": Prior(50.0, 0.5),
    "kv_power_w_per_tb_s": Prior(50.0, 0.7),
    "activation_power_w_per_tb_s": Prior(120.0, 0.7),
    "compute_power_w_per_tflop_s": Prior(0.80, 0.40),
}
"""Between what servers and what single kernels say
(:mod:`experiments.calibration.validation.kernel_power`): experts draw 38 to 81 W per TB/s, the
same in bf16 and FP8, and 0.9 to 1.5 W per TFLOP/s beside 200 to 260 W of a busy GPU; servers of
two GPU types that keep kernels running leave more to the latter."""


_REFITTED = {
    "bandwidth_efficiency": 0.05,
    "flops_efficiency": 0.10,
    "fp8_bandwidth_factor": 0.05,
    "fp8_flops_factor": 0.05,
    "kv_bandwidth_efficiency": 0.10,
    "attention_layer_s": 0.20,
    "moe_layer_s": 0.20,
    "expert_bandwidth_efficiency": 0.05,
    "expert_flops_efficiency": 0.10,
    "fp8_expert_bandwidth_factor": 0.10,
    "fp8_expert_flops_factor": 0.10,
}
"""Coefficients of kernels that a fit to whole servers may move, and how far (the least standard
deviation of the logarithm). Matrix products are the same kernels in both, at another temperature
and beside other work; attention and experts differ between the engine of the table and that of the
server. All others keep the value that the kernels gave."""


def time_priors(values: Mapping[str, float], deviations: Mapping[str, float]) -> dict[str, Prior]:
    """Returns the priors of the coefficients of time in a fit to whole servers.

    Args:
        values: Coefficients that were fitted to kernels.
        deviations: Their relative standard deviations.
    """
    priors = {name: KERNEL[name] for name in _REFITTED}
    for name in _REFITTED.keys() & values.keys():
        priors[name] = Prior(values[name], max(_REFITTED[name], deviations[name]))
    return priors | SERVER


def kernel_centres() -> dict[str, float]:
    """Returns the most plausible price of kernels, where no table tells it."""
    return {name: prior.centre for name, prior in KERNEL.items()}


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
