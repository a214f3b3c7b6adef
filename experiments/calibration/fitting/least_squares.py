"""Fits a calibration to measurements by robust least squares with priors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from envs.errors import ConfigurationError
from envs.simulator.calibration import Calibration, with_values
from experiments.calibration.data.measurement import Measurement
from experiments.calibration.fitting.ablation import WHOLE, Ablation
from experiments.calibration.fitting.priors import LEVEL, Prior
from experiments.calibration.fitting.simulate import Simulated, Simulation, measured

Floats = NDArray[np.float64]
AT_CAP = 0.985
"""Fraction of the cap from which a measured power counts as limited by it."""


@dataclass(frozen=True)
class FitOptions:
    """How a fit weighs its evidence.

    Attributes:
        deviations: What is compared, and the standard deviation of the logarithm of a measured
            over a simulated value that a row is trusted with. Rows of one run share their
            errors, so it is well above the scatter of single rows.
        outlier: Logarithmic error beyond which a row counts less and less.
        at_measured_time: Whether the energy of a run's steps is compared at the time that they
            took, so that an error of time does not hide in the energies.
    """

    deviations: Mapping[str, float] = field(
        default_factory=lambda: {"itl": 0.25, "tpot": 0.25, "power": 0.25}
    )
    outlier: float = 0.08
    at_measured_time: bool = False


@dataclass(frozen=True)
class Fit:
    """A fitted calibration.

    Attributes:
        calibration: The coefficients.
        logs: Logarithms of the fitted coefficients, to start another fit from.
        deviations: Relative standard deviation of each fitted coefficient.
        cost: Half the sum of squares that was minimised.
    """

    calibration: Calibration
    logs: Floats
    deviations: dict[str, float]
    cost: float


def fit(
    measurements: Sequence[Measurement],
    start: Calibration,
    priors: Mapping[str, Prior],
    options: FitOptions | None = None,
    logs: Floats | None = None,
    *,
    with_levels: bool = False,
    without: Ablation = WHOLE,
) -> Fit:
    """Fits the coefficients that have a prior; all others stay as in ``start``.

    Args:
        measurements: Rows to fit to.
        start: Calibration whose other coefficients are kept.
        priors: Priors by coefficient.
        options: Weights of the evidence.
        logs: Where to start, as :attr:`Fit.logs`; the priors' centres by default.
        with_levels: Whether each run of a cap sweep gets a level of its own.
        without: What the model of the step lacks.

    Raises:
        ConfigurationError: There is nothing to fit to.
    """
    if not measurements:
        raise ConfigurationError(
            "data: no row to fit this GPU type to; see the list of skipped rows"
        )
    options = options or FitOptions()
    fixed: dict[str, Any] = dict(without.fixed)
    start = replace(start, **fixed)
    priors = {name: prior for name, prior in priors.items() if name not in without.fixed}
    names = list(priors)
    runs = sorted({m.run for m in measurements if m.has_level}) if with_levels else []
    assumed = [*priors.values(), *[LEVEL] * (2 * len(runs))]
    centre = np.log([prior.centre for prior in assumed])
    deviation = np.array([prior.deviation for prior in assumed])
    simulation = Simulation(measurements, without)
    targets = Targets(measurements, options)

    def residuals(x: Floats) -> Floats:
        simulated = simulation.run(_with(start, names, runs, x))
        return np.concatenate([targets.residuals(simulated), (x - centre) / deviation])

    begin = centre if logs is None else logs
    solution = least_squares(residuals, begin, x_scale=deviation, ftol=1e-7, xtol=1e-7)
    spread = _deviations(solution.jac)
    return Fit(
        calibration=_with(start, names, runs, solution.x),
        logs=solution.x,
        deviations=dict(zip(names, spread, strict=False)),
        cost=float(solution.cost),
    )


def _with(
    start: Calibration, names: Sequence[str], runs: Sequence[str], logs: Floats
) -> Calibration:
    factors = np.exp(logs)
    changed = with_values(start, dict(zip(names, factors.tolist(), strict=False)))
    levels = factors[len(names) :].reshape(-1, 2)
    if runs:
        by_run = {
            run: [float(time), float(power)]
            for run, (time, power) in zip(runs, levels, strict=True)
        }
        changed = replace(changed, run_levels=by_run)
    return changed


def _deviations(jacobian: Floats) -> list[float]:
    covariance = np.linalg.pinv(jacobian.T @ jacobian)
    return [float(np.sqrt(max(value, 0.0))) for value in np.diag(covariance)]


class Targets:
    """The measured values of a fit, and the residuals of simulated ones."""

    def __init__(self, measurements: Sequence[Measurement], options: FitOptions) -> None:
        self._options = options
        self._measured = {name: measured(measurements, name) for name in options.deviations}
        self._weights = {
            name: np.array([m.weights.get(name, 1.0) for m in measurements])
            for name in options.deviations
        }
        self._cap_w = np.array([m.cap_w * m.parallelism.num_gpus for m in measurements])
        self._tpot_s = measured(measurements, "tpot")
        with np.errstate(invalid="ignore"):
            self._at_cap = measured(measurements, "power") > AT_CAP * self._cap_w

    def residuals(self, simulated: Simulated) -> Floats:
        """Returns one number per row and quantity, already made robust and weighed."""
        parts = []
        for name, value in self._measured.items():
            error = np.log(self._simulated(simulated, name) / value)
            told = np.isfinite(error) & (self._weights[name] > 0.0)
            robust = self._robust(error[told]) * np.sqrt(self._weights[name][told])
            parts.append(robust / self._options.deviations[name])
        return np.concatenate(parts)

    def _simulated(self, simulated: Simulated, name: str) -> Floats:
        """Returns what is compared with the measured values.

        For power that is the natural draw, except where the measured power is the cap:
        clipping at the cap would hide how far off the natural draw is.
        """
        if name == "clock":
            return simulated.clock_fraction
        if name == "power":
            uncapped = simulated.power_w + simulated.binding * (
                simulated.natural_w - simulated.power_w
            )
            if self._options.at_measured_time:
                uncapped = self._at_measured_time(simulated, uncapped)
            return np.where(self._at_cap, np.minimum(simulated.natural_w, self._cap_w), uncapped)
        return simulated.quantity(name)

    def _at_measured_time(self, simulated: Simulated, power_w: Floats) -> Floats:
        """Returns the power of the same energy above the static one, in the time measured."""
        factor = np.where(np.isfinite(self._tpot_s), simulated.natural_tpot_s / self._tpot_s, 1.0)
        return simulated.static_w + (power_w - simulated.static_w) * factor

    def _robust(self, error: Floats) -> Floats:
        """Square root of twice the Cauchy loss, with the error's sign.

        Its pull fades beyond the outlier's size: a server that does something else (a kernel
        without a tuned configuration, gaps between launches) tells nothing of the GPU.
        """
        scale = self._options.outlier
        robust: Floats = scale * np.sign(error) * np.sqrt(np.log1p((error / scale) ** 2))
        return robust
