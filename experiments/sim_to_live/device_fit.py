"""Calibrates the simulator for one live device from its own profile.

A profile holds throughput and power at every cap and batch limit, at saturation. Each of its
rows is one kind of engine step, so the step model is fitted to the rows directly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from baselines.profile import ProfileRow
from envs import catalog
from envs.errors import ConfigurationError
from envs.live.devices.throttled_cpu import ThrottledCpu
from envs.simulator.calibration import Calibration
from envs.simulator.gpus import GPUSpec
from envs.simulator.models import ModelSpec
from envs.simulator.parallelism import Parallelism
from envs.simulator.step_model import compile_step_model, resolve_step

FITTED = (
    "step_s", "sequence_s", "bandwidth_efficiency", "kv_bandwidth_efficiency",
    "expert_bandwidth_efficiency", "flops_efficiency", "expert_flops_efficiency",
    "busy_power_w",
)  # fmt: skip
_EFFICIENCIES = tuple(name for name in FITTED if name.endswith("efficiency"))
_PRIOR_WEIGHT = 0.05
_FEWEST_ROWS = 4
_LINEAR_KNEE = 1e3


@dataclass(frozen=True)
class DeviceFit:
    """A calibration and how well it fits the profile it was fitted to.

    Attributes:
        calibration: The coefficients.
        throughput_error: Median absolute relative error of throughput.
        power_error: The same of power.
        rows: Rows of the profile that were used.
    """

    calibration: Calibration
    throughput_error: float
    power_error: float
    rows: int


def stand_in_gpu(device: ThrottledCpu, caps_w: Sequence[float]) -> GPUSpec:
    """Describes a throttled CPU as a GPU type; its peaks are upper bounds, the fit does the rest.

    Args:
        device: The device.
        caps_w: Caps that controllers choose from.
    """
    return GPUSpec(
        name="throttled_cpu",
        device_name="one CPU core",
        memory_gb=4.0,
        memory_bandwidth_tb_s=0.1,
        flops_tera={"bf16": 2.0},
        sm_clock_min_mhz=20.0,
        sm_clock_max_mhz=2000.0,
        power_cap_min_w=device.cap_min_w,
        power_cap_max_w=device.max_w,
        power_caps_w=list(caps_w),
        idle_power_w=device.idle_w,
        calibration="throttled_cpu",
    )


def stand_in_start(device: ThrottledCpu) -> Calibration:
    """Returns where the fit of a throttled CPU starts: everything follows the quota linearly."""
    return Calibration(
        name="throttled_cpu",
        bandwidth_efficiency=0.1,
        kv_bandwidth_efficiency=0.1,
        expert_bandwidth_efficiency=0.1,
        flops_efficiency=0.02,
        expert_flops_efficiency=0.02,
        attention_flops_efficiency=0.02,
        overlap=1.0,
        activation_fraction=0.0,
        expert_overlap=1.0,
        product_s=0.0,
        product_depth_s=0.0,
        wave_outputs=0.0,
        expert_padding_tokens=0.0,
        moe_token_s=0.0,
        attention_layer_s=0.0,
        attention_row_s=0.0,
        attention_length_s=0.0,
        attention_width=0.0,
        attention_start_tokens=0.0,
        attention_wave_rows=0.0,
        layer_s=0.0,
        moe_layer_s=0.0,
        sampling_s=0.0,
        eager_layer_s=0.0,
        eager_moe_layer_s=0.0,
        chunked_layer_s=0.0,
        front_end_s=0.0,
        step_s=2e-3,
        mixed_step_s=0.0,
        sequence_s=2e-4,
        all_reduce_s=0.0,
        static_power_w=device.idle_w,
        busy_power_w=device.max_w - device.idle_w,
        compute_power_w_per_tflop_s=0.0,
        weight_power_w_per_tb_s=0.0,
        expert_weight_power_w_per_tb_s=0.0,
        kv_power_w_per_tb_s=0.0,
        activation_power_w_per_tb_s=0.0,
        clock_power_floor_w=device.idle_w,
        clock_linear_fraction=1.0,
        memory_clock_knee=_LINEAR_KNEE,
        memory_clock_sharpness=1.0,
        cap_settling_s=0.02,
        sensor_window_s=0.05,
        device_spread=0.0,
        fitted_on="a live profile",
    )


def gpu_start(gpu: GPUSpec) -> Calibration:
    """Returns where the fit of a real GPU starts: the calibration of its type."""
    start: Calibration = catalog.build("calibration", gpu.calibration)
    return start


def fit_device(
    rows: Sequence[ProfileRow],
    gpu: GPUSpec,
    model: ModelSpec,
    start: Calibration,
    mean_prompt_tokens: float,
) -> DeviceFit:
    """Fits time and power of a device to its profile.

    Args:
        rows: The profile, of one parallelism.
        gpu: The device's type.
        model: The model that was served.
        start: Where to start; coefficients stay near it where the profile says nothing.
        mean_prompt_tokens: Mean prompt length of the profile's requests.

    Raises:
        ConfigurationError: The profile is too short to fit anything to.
    """
    from scipy.optimize import least_squares

    used = [row for row in rows if row.throughput_tok_s > 0 and row.running >= 1]
    if len(used) < _FEWEST_ROWS:
        raise ConfigurationError(
            f"profile: {len(used)} usable rows are too few to calibrate a device; profile more "
            "caps and batch limits"
        )
    measured = np.log([[row.throughput_tok_s, row.power_w] for row in used])

    def misfit(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        simulated = _simulate(used, gpu, model, _scaled(start, logs), mean_prompt_tokens)
        error = (np.log(simulated) - measured).ravel()
        return np.concatenate([error, _PRIOR_WEIGHT * logs])

    highest = np.array([_headroom(start, name) for name in FITTED])
    result = least_squares(
        misfit, np.minimum(0.0, highest - 1e-6), bounds=(-8.0, highest), loss="soft_l1", f_scale=0.2
    )
    calibration = _scaled(start, result.x)
    simulated = np.log(_simulate(used, gpu, model, calibration, mean_prompt_tokens))
    errors = np.median(np.abs(np.expm1(simulated - measured)), axis=0)
    return DeviceFit(
        replace(
            calibration,
            fit_error={"throughput": float(errors[0]), "power": float(errors[1])},
        ),
        float(errors[0]),
        float(errors[1]),
        len(used),
    )


def _headroom(start: Calibration, name: str) -> float:
    """Returns the highest logarithm of the factor on a coefficient; efficiencies end at 1."""
    if name in _EFFICIENCIES:
        return max(1e-3, float(-np.log(getattr(start, name))))
    return 8.0


def _scaled(start: Calibration, logs: NDArray[np.float64]) -> Calibration:
    factors = dict(zip(FITTED, np.exp(logs).tolist(), strict=True))
    values = {name: getattr(start, name) * factor for name, factor in factors.items()}
    values |= {name: min(values[name], 1.0) for name in _EFFICIENCIES}
    return replace(start, **values)


def _simulate(
    rows: Sequence[ProfileRow],
    gpu: GPUSpec,
    model: ModelSpec,
    calibration: Calibration,
    mean_prompt_tokens: float,
) -> NDArray[np.float64]:
    """Returns throughput and power of each row, shape ``(rows, 2)``."""
    results = []
    for row in rows:
        spread = Parallelism(
            tensor=row.tensor_parallel, expert=row.expert_parallel, data=row.data_parallel
        )
        coefficients = compile_step_model(gpu, model, spread, calibration)
        sequences = row.running / row.data_parallel
        prefill = sequences * row.prompt_tok_s / row.throughput_tok_s
        seconds, power_w, _, _ = resolve_step(
            coefficients, sequences, sequences * row.context_tokens, prefill,
            0.5 * prefill * mean_prompt_tokens, row.power_cap_w, 1.0,
        )  # fmt: skip
        results.append([row.running / seconds, power_w * spread.num_gpus])
    return np.array(results)
