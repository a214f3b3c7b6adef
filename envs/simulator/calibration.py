"""The fitted coefficients of one GPU type, and random draws within their uncertainty."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, ClassVar

import numpy as np

from envs.fields import Checked, FieldError, Range
from envs.quantities import Fraction, NotNegative, Number

Coefficient = NotNegative
"""A coefficient of any size."""

_MOST_DEVIATION = 0.2


@dataclass(kw_only=True)
class Calibration(Checked):
    """Coefficients of one GPU type; none belongs to a model.

    Attributes:
        name: Name in the catalogue.
        engine: Version of the engine whose host times these are, as in ``vllm-0.11``.
        engines: What is different in later versions: coefficients by the first version that they
            hold for; :func:`for_engine` takes them.
        bandwidth_efficiency: Fraction of the peak bandwidth reached on dense weights.
        kv_bandwidth_efficiency: The same on cached keys and values.
        expert_bandwidth_efficiency: The same on routed experts.
        flops_efficiency: Fraction of the peak FLOP/s reached by large dense products.
        expert_flops_efficiency: The same by routed experts with many tokens each.
        attention_flops_efficiency: The same by attention over long prompts.
        fp8_bandwidth_factor: Factor on the dense bandwidth efficiency for FP8 weights.
        fp8_flops_factor: Factor on the FLOP efficiency of dense products with FP8 weights.
        fp8_activation_bytes: Bytes moved per input of a product to quantise it to FP8.
        fp8_columns: Columns of FP8 weights that take as long as none.
        fp8_expert_bandwidth_factor: Factor on the expert bandwidth efficiency for FP8.
        fp8_expert_flops_factor: Factor on the FLOP efficiency of experts for FP8.
        overlap: How memory time ``a`` and compute time ``b`` of a product combine,
            ``(a + b) / 2 + sqrt((a - b)^2 / 4 + overlap a b)``: their maximum at 0, their
            sum at 1.
        product_s: Fixed time of a matrix product.
        product_depth_s: Further time per row of its weights.
        wave_outputs: Outputs that fit into the part of the last wave of tiles that stays empty.
        expert_overlap: As :attr:`overlap`, of routed experts.
        expert_padding_tokens: Tokens that fill up the tiles of each expert that is touched.
        moe_token_s: Time per token and mixture-of-experts layer: sorting by expert, adding up.
        attention_layer_s: Fixed time of attention per layer.
        attention_row_s: Time of decode attention per sequence, layer and element of the heads.
        attention_length_s: Time of decode attention per layer and token of the mean context.
        attention_width: Elements that a head costs beyond its own width, over prompts.
        attention_start_tokens: Tokens that each query seems to attend to beyond those before it.
        attention_wave_rows: Query rows of heads in the part of the last wave that stays empty.
        activation_fraction: Fraction of the estimated activation traffic that reaches memory.
        popularity_spread: Shape ``a`` of the gamma-distributed popularity of experts; the
            smaller, the more uneven, and the fewer experts a step touches.
        layer_s: Fixed time per layer.
        moe_layer_s: Fixed time of the routed experts per mixture-of-experts layer.
        block_fp8_layer_s: Further kernel time per layer with block-scaled FP8 weights.
        step_s: Host time per step.
        mixed_step_s: Further host time per step that computes prompt tokens.
        sequence_s: Host time per decoding sequence.
        sampling_s: Kernel time per decoding sequence and 150,000 vocabulary entries, of few.
        sampling_rows: Sequences of which each takes half of that time.
        host_overlap: How far the host prepares a step while the GPU works on the one before: 0
            one after the other, 1 the longer of both (asynchronous scheduling).
        graph_tokens: Most tokens of a step that CUDA graphs were captured for; of a larger step
            the host launches every kernel.
        eager_layer_s: Least time per layer of such a step.
        chunked_layer_s: Host time per layer to launch attention that no CUDA graph holds.
        eager_moe_layer_s: The same, further, per mixture-of-experts layer.
        front_end_s: Time from a request's arrival to the scheduler and from the first token to
            the client together: HTTP, tokeniser, processes.
        launch_clock_fraction: Fraction of the fixed time on the GPU that follows the clock.
        all_reduce_s: Latency of a collective within a node.
        link_efficiency: Fraction of the link bandwidth reached.
        network_efficiency: Fraction of the bandwidth between nodes reached.
        network_latency_s: Latency that a collective between nodes adds, times
            ``1 + log2(nodes)``.
        static_power_w: Power of a GPU while it serves, before any work is counted.
        busy_power_w: Further power while a kernel runs.
        weight_power_w_per_tb_s: Power per TB/s of dense weights that are read.
        expert_weight_power_w_per_tb_s: The same for routed experts' weights.
        kv_power_w_per_tb_s: Power per TB/s of key/value traffic.
        activation_power_w_per_tb_s: Power per TB/s of activation traffic.
        compute_power_w_per_tflop_s: Power per TFLOP/s.
        clock_power_floor_w: Power in which the clock has no say.
        clock_linear_fraction: Fraction of the power above the floor that is linear in the clock;
            the rest rises with its power ``clock_exponent``.
        clock_exponent: See :attr:`clock_linear_fraction`.
        memory_clock_knee: Fraction of the highest clock about where memory reads slow down.
        memory_clock_sharpness: How sharply they do.
        leakage_per_k: Relative rise of the static power per kelvin of chip temperature.
        heating_k_per_w: Kelvin by which a watt warms the chip in the end, beyond what it does
            at once.
        warming_s: Time constant with which it does.
        cap_settling_s: Time constant with which a new power cap takes hold.
        limit_window_s: Time constant of the mean power that a limit acts on; shorter bursts
            pass above the limit.
        sensor_window_s: Window over which the power sensor averages.
        device_spread: Relative standard deviation of power between devices of this type.
        run_levels: Time and dynamic power of measured runs over the simulated ones, ``[time,
            power]`` by run: how fast a run of a cap sweep is at its highest cap, which a fit
            of its response to caps must not depend on. Used to validate such runs, never to
            simulate.
        uncertainty: Relative standard deviation of fitted coefficients, by name.
        ranges: Lowest and highest plausible value of coefficients that no data fix, by name.
        fitted_on: What it was fitted to; empty when it was not fitted.
        data_sha256: Hash of the data it was fitted to.
        fitted_rows: Digests of the rows it was fitted to, separated by spaces.
        fit_error: Median absolute percentage error of the fit by quantity.
    """

    config_key: ClassVar[str] = "calibration"

    name: str = ""
    engine: str = ""
    engines: dict[str, dict[str, NotNegative]] = field(default_factory=dict)
    bandwidth_efficiency: Fraction = 0.82
    kv_bandwidth_efficiency: Fraction = 0.80
    expert_bandwidth_efficiency: Fraction = 0.90
    flops_efficiency: Fraction = 0.80
    expert_flops_efficiency: Fraction = 0.50
    attention_flops_efficiency: Fraction = 0.90
    fp8_bandwidth_factor: Coefficient = 0.80
    fp8_flops_factor: Coefficient = 0.60
    fp8_activation_bytes: Coefficient = 6.0
    fp8_columns: Coefficient = 1000.0
    fp8_expert_bandwidth_factor: Coefficient = 0.90
    fp8_expert_flops_factor: Coefficient = 0.60
    overlap: Fraction = 0.10
    product_s: Coefficient = 3e-6
    product_depth_s: Coefficient = 2.5e-10
    wave_outputs: Coefficient = 1e5
    expert_overlap: Fraction = 0.80
    expert_padding_tokens: Coefficient = 7.0
    moe_token_s: Coefficient = 4e-8
    attention_layer_s: Coefficient = 9e-6
    attention_row_s: Coefficient = 1e-11
    attention_length_s: Coefficient = 2e-10
    attention_width: Coefficient = 80.0
    attention_start_tokens: Coefficient = 350.0
    attention_wave_rows: Coefficient = 7e3
    activation_fraction: Coefficient = 0.60
    popularity_spread: Coefficient = 0.60
    layer_s: Coefficient = 9e-6
    moe_layer_s: Coefficient = 14e-6
    block_fp8_layer_s: Coefficient = 60e-6
    step_s: Coefficient = 2.0e-3
    mixed_step_s: Coefficient = 2.0e-3
    sequence_s: Coefficient = 15e-6
    sampling_s: Coefficient = 20e-6
    sampling_rows: Coefficient = 400.0
    host_overlap: Fraction = 0.0
    graph_tokens: Coefficient = 512.0
    eager_layer_s: Coefficient = 0.4e-3
    eager_moe_layer_s: Coefficient = 0.7e-3
    chunked_layer_s: Coefficient = 0.05e-3
    front_end_s: Coefficient = 3.5e-3
    launch_clock_fraction: Fraction = 0.5
    all_reduce_s: Coefficient = 8e-6
    link_efficiency: Fraction = 0.60
    network_efficiency: Fraction = 0.70
    network_latency_s: Coefficient = 15e-6
    static_power_w: Coefficient = 120.0
    busy_power_w: Coefficient = 400.0
    weight_power_w_per_tb_s: Coefficient = 10.0
    expert_weight_power_w_per_tb_s: Coefficient = 25.0
    kv_power_w_per_tb_s: Coefficient = 80.0
    activation_power_w_per_tb_s: Coefficient = 150.0
    compute_power_w_per_tflop_s: Coefficient = 0.5
    clock_power_floor_w: Coefficient = 120.0
    clock_linear_fraction: Fraction = 0.65
    clock_exponent: Coefficient = 13.0
    memory_clock_knee: Coefficient = 0.5
    memory_clock_sharpness: Coefficient = 2.8
    leakage_per_k: Coefficient = 0.005
    heating_k_per_w: Coefficient = 0.027
    warming_s: Coefficient = 13.0
    cap_settling_s: Coefficient = 0.15
    limit_window_s: Coefficient = 0.1
    sensor_window_s: Coefficient = 1.0
    device_spread: Coefficient = 0.06
    run_levels: dict[str, list[NotNegative]] = field(default_factory=dict)
    uncertainty: dict[str, Annotated[float, Range(least=0.0, most=10.0)]] = field(
        default_factory=dict
    )
    ranges: dict[str, list[NotNegative]] = field(default_factory=dict)
    fitted_on: str = ""
    data_sha256: str = ""
    fitted_rows: str = ""
    fit_error: dict[str, Number] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks that what is said of coefficients is said of known ones.

        Raises:
            ConfigurationError: A value is out of range, or there is no such coefficient.
        """
        super().__post_init__()
        known = set(coefficient_names())
        for group in ("uncertainty", "ranges"):
            for key in getattr(self, group):
                if key not in known:
                    raise FieldError(self.config_key, f"{group}.{key}", "no such coefficient")
        for version, values in self.engines.items():
            for key in values:
                if key not in known:
                    raise FieldError(
                        self.config_key, f"engines.{version}.{key}", "no such coefficient"
                    )
        for key, bounds in self.ranges.items():
            if len(bounds) != 2 or not bounds[0] <= bounds[1]:
                problem = f"must be [lowest, highest], got {bounds}"
                raise FieldError(self.config_key, f"ranges.{key}", problem)


SHARES = frozenset(item.name for item in fields(Calibration) if item.type == "Fraction")
"""Coefficients that lie between 0 and 1."""


def coefficient_names() -> list[str]:
    """Returns the names of all coefficients, in order."""
    return [item.name for item in fields(Calibration) if item.type in ("Fraction", "Coefficient")]


def for_engine(calibration: Calibration, engine: str) -> Calibration:
    """Returns a calibration as it is for another version of the engine.

    Args:
        calibration: The calibration.
        engine: Name and version, as in ``vllm-0.26``; empty for the calibration's own.

    Returns:
        The calibration with the coefficients of the latest version up to ``engine`` of which
        it says any, and otherwise as it is.

    Raises:
        FieldError: The name has no version.
    """
    if not engine or not calibration.engines:
        return calibration
    name, wanted = _version(engine)
    known = [(_version(key), key) for key in calibration.engines]
    fitting = [(found, key) for (other, found), key in known if other == name and found <= wanted]
    if not fitting:
        return calibration
    changed: dict[str, Any] = dict(calibration.engines[max(fitting)[1]])
    return replace(calibration, engine=engine, engines={}, **changed)


def _version(engine: str) -> tuple[str, tuple[int, ...]]:
    name, _, version = engine.partition("-")
    parts = version.split(".")
    if not all(part.isdecimal() for part in parts):
        problem = f"must be a name and a version as in vllm-0.26, got {engine!r}"
        raise FieldError("server", "engine_version", problem)
    return name, tuple(int(part) for part in parts)


def calibration_hash(calibration: Calibration) -> str:
    """Returns a short hash of everything in a calibration that a simulation depends on.

    These are its coefficients, what other versions of the engine change of them, their
    uncertainty and their ranges. Its name, what it was fitted to and how it is written down do not
    matter.
    """
    content = {
        "coefficients": {key: float(getattr(calibration, key)) for key in coefficient_names()},
        "engines": {
            version: {key: float(value) for key, value in changed.items()}
            for version, changed in calibration.engines.items()
        },
        "uncertainty": {key: float(value) for key, value in calibration.uncertainty.items()},
        "ranges": {key: [float(end) for end in ends] for key, ends in calibration.ranges.items()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def randomize(calibration: Calibration, rng: np.random.Generator) -> Calibration:
    """Draws a calibration within its uncertainty, to make a policy robust to it.

    Fitted coefficients are drawn log-normally with their fitted relative deviation, at most
    20 %: the loosely known ones are correlated, and drawn further apart one by one they would
    no longer fit the data. Those that no data fix are drawn log-uniformly from their range
    (uniformly where it begins at 0). Shares stay at or below 1.

    Args:
        calibration: The calibration to vary.
        rng: Source of randomness.
    """
    drawn: dict[str, float] = {}
    for key, deviation in calibration.uncertainty.items():
        factor = float(np.exp(min(deviation, _MOST_DEVIATION) * rng.standard_normal()))
        drawn[key] = getattr(calibration, key) * factor
    for key, (low, high) in calibration.ranges.items():
        if low > 0.0:
            drawn[key] = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        else:
            drawn[key] = float(rng.uniform(low, high))
    for key in SHARES & drawn.keys():
        drawn[key] = min(drawn[key], 1.0)
    return unchecked(calibration, drawn)


def unchecked(calibration: Calibration, values: Mapping[str, float]) -> Calibration:
    """Returns a calibration with some coefficients replaced by values that are known to be allowed.

    To check all of them again takes longer than to draw them.
    """
    changed = copy(calibration)
    changed.__dict__.update(values)
    return changed


def with_values(calibration: Calibration, values: Mapping[str, float]) -> Calibration:
    """Returns a calibration with some coefficients replaced, shares at or below 1."""
    changed: dict[str, Any] = {
        name: min(float(value), 1.0) if name in SHARES else float(value)
        for name, value in values.items()
    }
    return replace(calibration, **changed)
