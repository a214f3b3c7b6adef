"""Estimates how much of a host-bound data set is explained by time that the host takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from experiments.calibration.data.readers.mlenergy_v2 import HOST_BOUND
from experiments.calibration.fitting.simulate import measured
from experiments.calibration.validation.cross_validation import (
    APART,
    Evaluated,
    by_model,
    relative_errors,
)

Floats = NDArray[np.float64]


def host_records(evaluated: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """Returns, per GPU type, the host time per step and per sequence that host-bound rows show.

    TPOT is modelled as the simulated one plus ``step_ms + sequence_ms x batch``; its error is
    that of leaving one model out.
    """
    rows = [j for j in evaluated if j.split == APART and j.measurement.apart == HOST_BOUND]
    records = []
    for gpu in sorted({j.measurement.gpu.name for j in rows}):
        part = [j for j in rows if j.measurement.gpu.name == gpu]
        batch = np.array([j.measurement.batch for j in part])
        simulated = np.array([j.simulated["tpot"] for j in part])
        real = measured([j.measurement for j in part], "tpot")
        step_s, sequence_s = _fit(simulated, batch, real)
        errors = np.empty(len(part))
        models = np.array([by_model(j.measurement) for j in part])
        for model in np.unique(models):
            kept = models != model
            if kept.any():
                a, b = _fit(simulated[kept], batch[kept], real[kept])
                out = ~kept
                errors[out] = np.abs((simulated[out] + a + b * batch[out]) / real[out] - 1.0)
        physics = np.abs(relative_errors(part, "tpot"))
        records.append(
            {
                "gpu": gpu,
                "rows": len(part),
                "step_ms": round(1e3 * step_s, 2),
                "sequence_ms": round(1e3 * sequence_s, 3),
                "tpot_median_ape_physics": round(100.0 * float(np.median(physics)), 1),
                "tpot_median_ape_with_host": round(100.0 * float(np.median(errors)), 1),
            }
        )
    return records


def _fit(simulated: Floats, batch: Floats, real: Floats) -> tuple[float, float]:
    def error(x: Floats) -> Floats:
        errors: Floats = np.log((simulated + np.exp(x[0]) + np.exp(x[1]) * batch) / real)
        return errors

    solution = least_squares(error, np.log([5e-3, 2e-4]), loss="soft_l1", f_scale=0.1)
    return float(np.exp(solution.x[0])), float(np.exp(solution.x[1]))
