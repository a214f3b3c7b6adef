"""Fits all coefficients of one GPU type to whatever measurements of it there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from envs.simulator.calibration import Calibration
from envs.simulator.gpus import GPUSpec
from experiments.calibration.data.measurement import Measurement
from experiments.calibration.fitting.ablation import WHOLE, Ablation
from experiments.calibration.fitting.least_squares import AT_CAP, Fit, FitOptions, fit
from experiments.calibration.fitting.priors import TIME, Prior, clock_priors, power_priors

SWEEP_OPTIONS = FitOptions({"itl": 0.1, "tpot": 0.1, "power": 0.1}, outlier=0.05)
"""Weights where one machine was swept: few models, little scatter."""
CAP_OPTIONS = FitOptions({"tpot": 0.02, "power": 0.02, "clock": 0.04}, outlier=0.03)
"""Weights of the response to caps."""


@dataclass(frozen=True)
class GPUFit:
    """The fits of one GPU type.

    Attributes:
        work: Fit of time and power at the highest clock.
        caps: Fit of the response to caps, where caps were measured.
    """

    work: Fit
    caps: Fit | None

    @property
    def calibration(self) -> Calibration:
        """The coefficients."""
        return (self.caps or self.work).calibration

    @property
    def deviations(self) -> dict[str, float]:
        """Relative standard deviation of every fitted coefficient."""
        return self.work.deviations | (self.caps.deviations if self.caps else {})


def fit_gpu(
    gpu: GPUSpec,
    measurements: Sequence[Measurement],
    near: GPUFit | None = None,
    without: Ablation = WHOLE,
) -> GPUFit:
    """Fits a GPU type, in two stages where its response to caps was measured.

    First time and power at the highest clock, from rows that no cap limits; then the response
    to the clock, with a level for each run of a published cap sweep.

    Args:
        gpu: GPU type.
        measurements: Rows to fit to.
        near: A fit of almost the same rows, to start from.
        without: What the model of the step lacks.

    Raises:
        ConfigurationError: There is nothing to fit to.
    """
    start = replace(Calibration(name=gpu.calibration), **_clock_centres(gpu))
    swept = _swept_runs(measurements)
    free = [m for m in measurements if m.run not in swept or _least_limited(m, swept[m.run])]
    options = SWEEP_OPTIONS if swept else FitOptions()
    begin = None if near is None else near.work.logs
    work = fit(free, start, work_priors(gpu), options, begin, without=without)
    if not swept:
        return GPUFit(work, None)
    rows = [m for m in measurements if m.run in swept]
    start = work.calibration
    priors = clock_priors(gpu)
    caps = fit(rows, start, priors, CAP_OPTIONS, with_levels=True, without=without)
    return GPUFit(work, caps)


def work_priors(gpu: GPUSpec) -> dict[str, Prior]:
    """Returns the priors of all coefficients at the highest clock."""
    return {**TIME, **power_priors(gpu)}


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
