"""Fits what a GPU type draws, when the times of its steps are fitted.

Energies are compared in the time that the steps took in truth: a step that is simulated too
slow must not be given more energy for it. Where a run's clock is known (a limit bound, or the
site allowed no more) it tells how power follows the clock.
"""

from __future__ import annotations

from collections.abc import Sequence

from envs.simulator.calibration import Calibration
from envs.simulator.gpus import GPUSpec
from experiments.calibration.data.measurement import Measurement
from experiments.calibration.fitting.ablation import WHOLE, Ablation
from experiments.calibration.fitting.least_squares import Fit, FitOptions, Floats, fit
from experiments.calibration.fitting.priors import CLOCK_CURVE, clock_priors, power_priors

DEVIATION = 0.25
CLOCK_DEVIATION = 0.1
SLOWED = 0.99
"""Fraction of the highest clock below which a row tells how power follows the clock."""


def fit_power(
    gpu: GPUSpec,
    measurements: Sequence[Measurement],
    start: Calibration,
    logs: Floats | None = None,
    *,
    swept: bool = False,
    deviation: float = DEVIATION,
    outlier: float = 0.08,
    without: Ablation = WHOLE,
) -> Fit:
    """Fits the coefficients of power; all others stay as in ``start``.

    Args:
        gpu: GPU type.
        measurements: Rows to fit to.
        start: Calibration with the fitted times.
        logs: Where to start, as :attr:`Fit.logs`.
        swept: Whether the response to caps was measured and is fitted to these rows later.
        deviation: How far a row's power is trusted, as in :class:`FitOptions`.
        outlier: As in :class:`FitOptions`.
        without: What the model of the step lacks.

    Raises:
        ConfigurationError: There is nothing to fit to.
    """
    priors = dict(power_priors(gpu))
    deviations = {"power": deviation}
    if not swept and any(_tells_clock(m) for m in measurements):
        priors |= {name: clock_priors(gpu)[name] for name in CLOCK_CURVE}
        deviations["clock"] = CLOCK_DEVIATION
    options = FitOptions(deviations, outlier, at_measured_time=True)
    if logs is not None and len(logs) != len(priors):
        logs = None
    return fit(measurements, start, priors, options, logs, without=without)


def _tells_clock(m: Measurement) -> bool:
    return m.clock_fraction is not None and not m.has_level and m.clock_fraction < SLOWED
