"""Times of the mean engine step of a full server, with drawn coefficients."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from envs.simulator.calibration import Calibration, randomize
from envs.simulator.interconnect import communication
from envs.simulator.server_spec import ServerSpec
from envs.simulator.step_model import compile_step_model, resolve_step
from experiments.evaluation.statistics import FloatArray
from experiments.figures.base import Row
from experiments.figures.operating_point import OperatingPoint, server_spec_of


class StepTimes(NamedTuple):
    """Times of a mean engine step, shape ``(1 + draws,)``: nominal coefficients, then the draws.

    Attributes:
        compute_s: Time that is not communication.
        communication_s: Time spent communicating.
    """

    compute_s: FloatArray
    communication_s: FloatArray

    @property
    def communication_fraction(self) -> FloatArray:
        """Communication's fraction of the step."""
        return self.communication_s / (self.compute_s + self.communication_s)


def step_times(point: OperatingPoint, draws: int) -> StepTimes:
    """Returns the times of a point's mean step."""
    spec = server_spec_of(point)
    rng = np.random.default_rng(0)
    drawn = [spec.coefficients]
    drawn += [randomize(spec.coefficients, rng) for _ in range(draws)]
    pairs = np.array([_step(spec, coefficients, point.batch) for coefficients in drawn])
    return StepTimes(pairs[:, 0], pairs[:, 1])


def middle_90_percent(fraction: FloatArray) -> tuple[float, float]:
    """Returns the 5th and 95th percentile of the draws, without the nominal value."""
    low, high = np.percentile(fraction[1:], [5, 95])
    return float(low), float(high)


def row(point: OperatingPoint, times: StepTimes) -> Row:
    """Returns a point's nominal times, and communication's fraction with its interval."""
    fraction = times.communication_fraction
    low, high = middle_90_percent(fraction)
    return {
        "model": point.model,
        "tensor_parallel": point.tensor,
        "batch": point.batch,
        "compute_s": times.compute_s[0],
        "communication_s": times.communication_s[0],
        "communication_fraction": fraction[0],
        "communication_fraction_low": low,
        "communication_fraction_high": high,
    }


def _step(spec: ServerSpec, coefficients: Calibration, batch: int) -> tuple[float, float]:
    """Returns computing and communicating seconds of a mean step of a full batch."""
    prompt, output = spec.workload.mean_prompt_tokens, spec.workload.mean_output_tokens
    prefill = batch * prompt / output
    model = compile_step_model(spec.gpu, spec.model, spec.parallelism, coefficients)
    context_tokens = batch * (prompt + 0.5 * output)
    pairs = 0.5 * prefill * prompt
    cap_w = spec.gpu.power_cap_max_w
    time_s, _, _, _ = resolve_step(model, float(batch), context_tokens, prefill, pairs, cap_w, 1.0)
    per_step, per_token = communication(spec.gpu, spec.model, spec.parallelism, coefficients)
    communication_s = per_step + per_token * (batch + prefill)
    return float(time_s - communication_s), float(communication_s)
