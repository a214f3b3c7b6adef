"""Fits all coefficients of one GPU type to whatever measurements of it there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from envs.errors import ConfigurationError
from envs.simulator.calibration import Calibration, with_values
from envs.simulator.gpus import GPUSpec
from experiments.calibration.data.measurement import Measurement
from experiments.calibration.fitting.ablation import WHOLE, Ablation
from experiments.calibration.fitting.engines import LATER, TABLES
from experiments.calibration.fitting.kernel_fit import NO_KERNELS, KernelFit
from experiments.calibration.fitting.least_squares import AT_CAP, Fit, FitOptions, fit
from experiments.calibration.fitting.power_fit import DEVIATION, fit_power
from experiments.calibration.fitting.priors import (
    clock_priors,
    kernel_centres,
    power_priors,
    time_priors,
)
from experiments.calibration.fitting.uncertainty import sensor_window_s

TIME_OPTIONS = FitOptions({"itl": 0.25, "tpot": 0.25})
"""Weights of times."""
SWEEP_OPTIONS = FitOptions({"itl": 0.1, "tpot": 0.1}, outlier=0.05)
"""Weights where one machine was swept: few models, little scatter."""
SWEEP_DEVIATION = 0.1
CAP_OPTIONS = FitOptions({"tpot": 0.02, "power": 0.02, "clock": 0.04}, outlier=0.03)
"""Weights of the response to caps."""


@dataclass(frozen=True)
class GPUFit:
    """The fits of one GPU type.

    Attributes:
        work: Fit of the times at the highest clock.
        power: Fit of the power.
        caps: Fit of the response to caps, where caps were measured.
        kernels: Fit of the price of kernels, where kernels were measured.
    """

    work: Fit
    power: Fit
    caps: Fit | None
    kernels: KernelFit = NO_KERNELS

    @property
    def calibration(self) -> Calibration:
        """The coefficients."""
        return (self.caps or self.power).calibration

    @property
    def deviations(self) -> dict[str, float]:
        """Relative standard deviation of every fitted coefficient."""
        own = self.kernels.deviations | self.work.deviations | self.power.deviations
        return own | (self.caps.deviations if self.caps else {})


def fit_gpu(
    gpu: GPUSpec,
    measurements: Sequence[Measurement],
    near: GPUFit | None = None,
    without: Ablation = WHOLE,
    kernels: KernelFit = NO_KERNELS,
) -> GPUFit:
    """Fits a GPU type: times, then power, then the response to caps where that was measured.

    Times and power at the highest clock come from rows that no cap limits. How often the board's
    own limit slows a step down follows from the power, so that both are fitted twice, unless a
    fit of almost the same rows says it. The response to the clock is fitted with a level for
    each run of a published cap sweep.

    Args:
        gpu: GPU type.
        measurements: Rows to fit to.
        near: A fit of almost the same rows, to start from.
        without: What the model of the step lacks.
        kernels: What was fitted to this GPU type's kernels.

    Raises:
        ConfigurationError: There is nothing to fit to.
    """
    start = Calibration(
        name=gpu.calibration, engine=TABLES, engines=LATER, sensor_window_s=sensor_window_s(gpu)
    )
    start = replace(start, **_clock_centres(gpu))
    start = with_values(start, kernel_centres() | kernels.values)
    swept = _swept_runs(measurements)
    free = [m for m in measurements if m.run not in swept or _least_limited(m, swept[m.run])]
    options = SWEEP_OPTIONS if swept else TIME_OPTIONS
    typical = {name: prior.centre for name, prior in power_priors(gpu).items()}
    start = near.power.calibration if near else replace(start, **_as_values(typical))
    logs, power_logs = (near.work.logs, near.power.logs) if near else (None, None)
    priors = time_priors(kernels.values, kernels.deviations)
    for _ in range(1 if near else 2):
        work = fit(free, start, priors, options, logs, without=without)
        power = fit_power(
            gpu, free, work.calibration, power_logs,
            swept=bool(swept), deviation=SWEEP_DEVIATION if swept else DEVIATION,
            outlier=options.outlier, without=without,
        )  # fmt: skip
        logs, power_logs, start = work.logs, power.logs, power.calibration
    if not swept:
        return GPUFit(work, power, None, kernels)
    rows = [m for m in measurements if m.run in swept]
    start = power.calibration
    priors = clock_priors(gpu)
    caps = fit(rows, start, priors, CAP_OPTIONS, with_levels=True, without=without)
    return GPUFit(work, power, caps, kernels)


def from_kernels(gpu: GPUSpec, near: Calibration, kernels: KernelFit) -> GPUFit:
    """Returns the calibration of a GPU type of which only kernels were measured.

    Args:
        gpu: GPU type.
        near: Calibration of a GPU type like it, for all that kernels do not tell.
        kernels: What was fitted to its kernels.

    Raises:
        ConfigurationError: There are no kernels of it.
    """
    if not kernels.values:
        raise ConfigurationError(f"data: neither servers nor kernels of {gpu.name} to fit to")
    calibration = replace(
        with_values(near, kernels.values), name=gpu.calibration, run_levels={}, fitted_rows=""
    )
    work = Fit(calibration, np.zeros(0), dict(near.uncertainty), 0.0)
    return GPUFit(work, Fit(calibration, np.zeros(0), {}, 0.0), None, kernels)


def _as_values(values: dict[str, float]) -> dict[str, Any]:
    return dict(values)


def _clock_centres(gpu: GPUSpec) -> dict[str, Any]:
    """Returns the most plausible response to the clock, where no data fix it."""
    return {name: prior.centre for name, prior in clock_priors(gpu).items()}


def _swept_runs(measurements: Sequence[Measurement]) -> dict[str, float]:
    """Returns the runs that were measured under several caps, with the highest of these."""
    caps: dict[str, set[float]] = {}
    for m in measurements:
        caps.setdefault(m.run, set()).add(m.cap_w)
    return {run: max(found) for run, found in caps.items() if len(found) > 1}


def _least_limited(m: Measurement, highest_cap_w: float) -> bool:
    """Whether a row of a swept run tells what the run does at the highest clock."""
    if m.has_level and m.model.experts and m.batch > 1.0:
        return False  # every request has the same prompt, so they share their experts
    if m.cap_w == highest_cap_w:
        return True
    return m.power_w is not None and m.power_w < AT_CAP * m.cap_w * m.parallelism.num_gpus
