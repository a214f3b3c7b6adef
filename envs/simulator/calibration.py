"""The fitted coefficients of one GPU type, and how to draw them at random within their doubt."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np

from envs.errors import ConfigurationError

_SHARES = {
    "bandwidth_efficiency", "kv_bandwidth_efficiency", "expert_bandwidth_efficiency",
    "flops_efficiency", "expert_flops_efficiency", "attention_flops_efficiency",
    "link_efficiency", "overlap", "clock_linear_share",
}  # fmt: skip


@dataclass(kw_only=True)
class Calibration:
    """Coefficients of one GPU type; none belongs to a model.

    Attributes:
        name: Name in the catalogue.
        bandwidth_efficiency: Share of the peak bandwidth reached on dense weights.
        kv_bandwidth_efficiency: The same on cached keys and values.
        expert_bandwidth_efficiency: The same on routed experts.
        flops_efficiency: Share of the peak FLOP/s reached by dense products.
        expert_flops_efficiency: The same by routed experts.
        attention_flops_efficiency: The same by attention over prompts.
        fp8_bandwidth_factor: Factor on the dense bandwidth efficiency for FP8 weights.
        fp8_flops_factor: Factor on the FLOP efficiencies for FP8 weights.
        fp8_expert_bandwidth_factor: Factor on the expert bandwidth efficiency for FP8.
        overlap: How memory time ``a`` and compute time ``b`` of a kernel combine: 0 is
            ``max(a, b)``, 1 is ``a + b`` (see :mod:`envs.simulator.step_model`).
        activation_share: Factor on the estimated activation traffic.
        popularity_spread: Shape ``a`` of the gamma-distributed popularity of experts; the
            smaller, the fewer experts a step touches.
        layer_s: Fixed time per layer.
        moe_layer_s: Further fixed time per mixture-of-experts layer.
        block_fp8_layer_s: Further fixed time per layer with block-scaled FP8 weights.
        step_s: Fixed time per step.
        mixed_step_s: Further fixed time per step that computes prompt tokens.
        sequence_s: Time per decoding sequence and 150,000 vocabulary entries (sampling).
        all_reduce_s: Latency of an all-reduce, times ``1 + log2(ranks)``.
        link_efficiency: Share of the link bandwidth reached.
        network_efficiency: Share of the bandwidth between nodes reached.
        network_latency_s: Latency of a collective between nodes, times ``log2(nodes)``.
        static_power_w: Power of a GPU while it serves, before any work is counted.
        busy_power_w: Further power while a kernel runs.
        weight_power_w_per_tb_s: Power per TB/s of weight traffic.
        kv_power_w_per_tb_s: Power per TB/s of key/value traffic.
        activation_power_w_per_tb_s: Power per TB/s of activation traffic.
        compute_power_w_per_tflop_s: Power per TFLOP/s.
        clock_power_floor_w: Power at which the clock has no say (``Ps`` of the power curve).
        clock_linear_share: Share ``1 - c`` of the power above the floor that is linear in
            the clock; the rest rises with the power ``clock_exponent``.
        clock_exponent: See :attr:`clock_linear_share`.
        memory_clock_knee: Clock share below which memory reads slow down.
        memory_clock_sharpness: How sharply they do.
        cap_settling_s: Time constant with which a new power cap takes hold.
        sensor_window_s: Window over which the power sensor averages.
        device_spread: Relative standard deviation of power between devices of this type.
        uncertainty: Relative standard deviation (``std``) of fitted coefficients, by name.
        ranges: Lowest and highest plausible value of coefficients that no data fix, by name.
        fitted_on: What it was fitted to.
        data_sha256: Hash of the data it was fitted to.
        fit_error: Median absolute percentage error of the fit by quantity.
    """

    name: str = ""
    bandwidth_efficiency: float = 0.8
    kv_bandwidth_efficiency: float = 0.8
    expert_bandwidth_efficiency: float = 0.7
    flops_efficiency: float = 0.7
    expert_flops_efficiency: float = 0.36
    attention_flops_efficiency: float = 0.4
    fp8_bandwidth_factor: float = 0.8
    fp8_flops_factor: float = 0.57
    fp8_expert_bandwidth_factor: float = 0.63
    overlap: float = 0.4142
    activation_share: float = 0.6
    popularity_spread: float = 0.57
    layer_s: float = 9e-6
    moe_layer_s: float = 13e-6
    block_fp8_layer_s: float = 57e-6
    step_s: float = 1.9e-3
    mixed_step_s: float = 2.0e-3
    sequence_s: float = 36e-6
    all_reduce_s: float = 6e-6
    link_efficiency: float = 0.62
    network_efficiency: float = 0.7
    network_latency_s: float = 15e-6
    static_power_w: float = 120.0
    busy_power_w: float = 400.0
    weight_power_w_per_tb_s: float = 0.0
    kv_power_w_per_tb_s: float = 20.0
    activation_power_w_per_tb_s: float = 200.0
    compute_power_w_per_tflop_s: float = 0.45
    clock_power_floor_w: float = 120.0
    clock_linear_share: float = 0.65
    clock_exponent: float = 13.0
    memory_clock_knee: float = 0.5
    memory_clock_sharpness: float = 2.8
    cap_settling_s: float = 0.15
    sensor_window_s: float = 1.0
    device_spread: float = 0.06
    uncertainty: dict[str, float] = field(default_factory=dict)
    ranges: dict[str, list[float]] = field(default_factory=dict)
    fitted_on: str = ""
    data_sha256: str = ""
    fit_error: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float) and not (np.isfinite(value) and value >= 0.0):
                raise ConfigurationError(f"calibration.{item.name}: {value} must be 0 or above")
        for key in _SHARES:
            if getattr(self, key) > 1.0:
                raise ConfigurationError(f"calibration.{key}: {getattr(self, key)} is above 1")
        known = {item.name for item in fields(self) if item.type in (float, "float")}
        for group in ("uncertainty", "ranges"):
            for key in getattr(self, group):
                if key not in known:
                    raise ConfigurationError(f"calibration.{group}.{key}: no such coefficient")


def randomize(calibration: Calibration, rng: np.random.Generator) -> Calibration:
    """Draws a calibration from the doubt about it, to make a policy robust to that doubt.

    Fitted coefficients are drawn log-normally with their fitted relative deviation; those
    that no data fix, log-uniformly from their range. Shares stay at or below 1.

    Args:
        calibration: The calibration to vary.
        rng: Source of randomness.
    """
    drawn: dict[str, float] = {}
    for key, std in calibration.uncertainty.items():
        drawn[key] = getattr(calibration, key) * float(np.exp(std * rng.standard_normal()))
    for key, (low, high) in calibration.ranges.items():
        if low > 0.0:
            drawn[key] = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        else:
            drawn[key] = float(rng.uniform(low, high))
    for key in _SHARES & drawn.keys():
        drawn[key] = min(drawn[key], 1.0)
    return replace(calibration, **drawn)
