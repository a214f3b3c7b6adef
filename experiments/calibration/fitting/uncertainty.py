"""Ranges for domain randomisation of the coefficients that no data set determines.

The clock's fraction of the power differs between GPU types measured under caps (V100, A40 and
RTX 6000 in training, RTX PRO 6000 in inference): their spread is the uncertainty about a GPU whose
response to caps is not published. Settling time and sensor windows follow what is known
of NVIDIA's driver (arXiv:2312.02741: a 1 s average on Ampere and later, except GA100). How fast a
limit acts and a chip warms follows from the measured H100 (``docs/measurements/h100``): a burst of
prompts passes 20 % above the limit for 0.1 s, the temperature follows within 13 s, by
0.027 K per watt.
"""

from __future__ import annotations

import numpy as np

from envs.simulator.gpus import GPUSpec

A100 = "a100"
SENSORS = {A100: (0.016, 0.025), "h100": (0.99, 1.01)}
"""Windows of the power sensors, in seconds, by chip: an A100 shows a moment (powertrace-sim
readings), an H100 a running mean of 1.0 s (``docs/measurements/h100``)."""
FLOOR_FRACTION = (0.15, 0.37)
"""Fraction of the highest cap: V100 0.14, A40 0.22, RTX PRO 6000 0.27, Quadro RTX 6000 0.22 to
0.36, depending on the exponent, which its data hardly fix
(:mod:`experiments.calibration.validation.training_caps`)."""
_CLOCK = {
    "clock_linear_fraction": (0.3, 0.85),
    "clock_exponent": (4.0, 20.0),
    "memory_clock_knee": (0.3, 0.6),
    "launch_clock_fraction": (0.0, 1.0),
}
_ANYWAY = {
    "cap_settling_s": (0.05, 0.5),
    "limit_window_s": (0.05, 0.2),
    "heating_k_per_w": (0.02, 0.08),
    "warming_s": (10.0, 60.0),
    "network_efficiency": (0.4, 0.9),
    "network_latency_s": (5e-6, 40e-6),
    "device_spread": (0.04, 0.08),
}


def ranges(gpu: GPUSpec, *, caps_measured: bool) -> dict[str, list[float]]:
    """Returns the plausible range of each coefficient that was not fitted.

    Args:
        gpu: GPU type.
        caps_measured: Whether its response to caps was fitted.
    """
    result = {name: list(bounds) for name, bounds in _ANYWAY.items()}
    if not caps_measured:
        floor = [round(fraction * gpu.power_cap_max_w, 1) for fraction in FLOOR_FRACTION]
        result["clock_power_floor_w"] = floor
        result |= {name: list(bounds) for name, bounds in _CLOCK.items()}
    if gpu.chip in SENSORS:
        result["sensor_window_s"] = list(SENSORS[gpu.chip])
    else:
        result["sensor_window_s"] = [0.1, 1.0]
    if gpu.chip == A100:
        result["link_efficiency"] = [0.08, 0.70]  # vLLM of 2024 and TensorRT-LLM
    return result


def sensor_window_s(gpu: GPUSpec) -> float:
    """Returns the window of a GPU type's power sensor."""
    return float(np.mean(SENSORS.get(gpu.chip, (1.0, 1.0))))
