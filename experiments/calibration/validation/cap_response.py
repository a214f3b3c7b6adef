"""Errors of the response to power caps: the clock, and the loss down to the lowest cap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.calibration.validation.cross_validation import (
    FITTED,
    HELD_OUT,
    Evaluated,
    relative_errors,
)


def clock_records(evaluated: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """Returns the error of the simulated clock by split, for rows of a sweep that tell it."""
    records = []
    swept = [j for j in evaluated if j.measurement.has_level]
    for split in (FITTED, HELD_OUT):
        part = [j for j in swept if j.split == split and j.measurement.clock_fraction is not None]
        if part:
            errors = 100.0 * np.abs(relative_errors(part, "clock"))
            records.append(
                {
                    "split": split,
                    "n": len(part),
                    "median_ape": round(float(np.median(errors)), 2),
                    "mean_ape": round(float(np.mean(errors)), 2),
                }
            )
    return records


def cap_losses(evaluated: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """Returns the loss in tok/s from a run's best row to its lowest cap, measured and simulated.

    The simulated loss is that of the lowest cap against the same best row's cap, each
    simulated with coefficients not fitted to it.
    """
    records = []
    swept = [j for j in evaluated if j.measurement.has_level]
    for split in (FITTED, HELD_OUT):
        for run in sorted({j.measurement.run for j in swept}):
            rows = [j for j in swept if j.split == split and j.measurement.run == run]
            if len({j.measurement.cap_w for j in rows}) < 2:
                continue
            lowest = min(rows, key=lambda j: j.measurement.cap_w)
            best = max(rows, key=lambda j: j.measurement.throughput_tok_s or 0.0)
            real = 1.0 - _measured(lowest) / _measured(best)
            simulated = 1.0 - lowest.simulated["throughput"] / best.simulated["throughput"]
            records.append(
                {
                    "run": run,
                    "split": split,
                    "lowest_cap_w": lowest.measurement.cap_w,
                    "best_cap_w": best.measurement.cap_w,
                    "measured_loss_percent": round(100.0 * real, 2),
                    "simulated_loss_percent": round(100.0 * simulated, 2),
                }
            )
    return records


def interior(evaluated: Sequence[Evaluated]) -> dict[str, dict[str, float]]:
    """Returns the held-out errors in tok/s of interior caps and of the lowest cap, in percent."""
    swept = [j for j in evaluated if j.measurement.has_level and j.split == HELD_OUT]
    if not swept:
        return {}
    caps = sorted({j.measurement.cap_w for j in swept})
    parts = {
        "interior caps": [j for j in swept if caps[0] < j.measurement.cap_w < caps[-1]],
        "lowest cap": [j for j in swept if j.measurement.cap_w == caps[0]],
    }
    result = {}
    for name, part in parts.items():
        if part:
            errors = 100.0 * np.abs(relative_errors(part, "throughput"))
            result[name] = {
                "n": float(len(part)),
                "median_ape": round(float(np.median(errors)), 2),
                "max_ape": round(float(np.max(errors)), 2),
            }
    return result


def _measured(j: Evaluated) -> float:
    return float(j.measurement.throughput_tok_s or np.nan)
