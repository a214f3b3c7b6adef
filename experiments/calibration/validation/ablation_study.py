"""Measures how much worse a fit predicts unseen families without a part of the physics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from envs.simulator.gpus import GPUSpec
from experiments.calibration.data.measurement import Measurement
from experiments.calibration.fitting.ablation import ABLATIONS
from experiments.calibration.fitting.gpu_fit import fit_gpu
from experiments.calibration.fitting.kernel_fit import NO_KERNELS, KernelFit
from experiments.calibration.validation.cross_validation import (
    FAMILY_OUT,
    FITTED,
    Evaluated,
    by_family,
    evaluate,
    leave_out,
    relative_errors,
)
from experiments.reporting.markdown import markdown_table


def study(
    gpu: GPUSpec, rows: Sequence[Measurement], processes: int, kernels: KernelFit = NO_KERNELS
) -> list[dict[str, Any]]:
    """Fits a GPU type again without each part, and evaluates its MoE rows.

    Every fit sees dense and MoE rows of all families but one, under the same priors: without
    priors a model that lacks a part compensates by impossible efficiencies.

    Returns:
        One record per removed part; none where there are rows of fewer than two MoE models.
    """
    if len({m.model.name for m in rows if m.model.experts}) < 2:
        return []
    results = []
    for part in ABLATIONS:
        fitted = evaluate(
            rows, fit_gpu(gpu, rows, without=part, kernels=kernels).calibration, FITTED, part
        )
        unseen = leave_out(gpu, rows, by_family, FAMILY_OUT, None, processes, part, kernels)
        if unseen:
            seen, new = _moe(fitted), _moe(unseen)
            results.append(
                {
                    "gpu": gpu.name,
                    "without": part.name,
                    "rows": len(new),
                    "tpot_fitted": _median(relative_errors(seen, "tpot")),
                    "tpot_family_out": _median(relative_errors(new, "tpot")),
                    "power_family_out": _median(relative_errors(new, "power")),
                    "growth_family_out": _median(growth_errors(new)),
                    "growth_bias_family_out": _bias(growth_errors(new)),
                }
            )
    return results


def growth_errors(evaluated: Sequence[Evaluated]) -> np.ndarray:
    """Returns the error of the growth of TPOT from each run's smallest to its largest batch."""
    runs: dict[str, list[Evaluated]] = defaultdict(list)
    for j in evaluated:
        if j.measurement.tpot_s is not None:
            runs[j.measurement.run].append(j)
    results = []
    for rows in runs.values():
        first = min(rows, key=lambda j: j.measurement.batch)
        last = max(rows, key=lambda j: j.measurement.batch)
        if last.measurement.batch >= 2.0 * first.measurement.batch:
            real = (last.measurement.tpot_s or 0.0) / (first.measurement.tpot_s or 1.0)
            results.append(last.simulated["tpot"] / first.simulated["tpot"] / real - 1.0)
    return np.array(results)


def ablation_table(records: Sequence[dict[str, Any]]) -> str:
    """Returns the study as a Markdown table."""
    head = [
        "GPU",
        "without",
        "TPOT, fitted",
        "TPOT, family left out",
        "power, family left out",
        "growth of TPOT with the batch: error",
        "its bias",
    ]
    errors = ("tpot_fitted", "tpot_family_out", "power_family_out", "growth_family_out")
    rows = [
        [
            r["gpu"],
            r["without"],
            *(f"{r[key]:.1f} %" for key in errors),
            f"{r['growth_bias_family_out']:+.1f} %",
        ]
        for r in records
    ]
    return markdown_table(head, rows)


def _moe(evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    return [j for j in evaluated if j.measurement.model.experts]


def _median(errors: np.ndarray) -> float:
    return round(100.0 * float(np.nanmedian(np.abs(errors))), 2)


def _bias(errors: np.ndarray) -> float:
    return round(100.0 * float(np.nanmedian(errors)), 2)
