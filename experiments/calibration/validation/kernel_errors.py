"""Errors of the price of single kernels, on shapes that the fit did not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.simulator.calibration import Calibration, with_values
from envs.simulator.gpus import GPUSpec
from experiments.calibration.data.kernel_rows import Floats, KernelTables
from experiments.calibration.fitting.kernel_fit import (
    Family,
    KernelFit,
    families,
    fit_family,
)
from experiments.calibration.fitting.priors import kernel_centres
from experiments.reporting.markdown import markdown_table

FOLDS = 5


@dataclass(frozen=True)
class KernelError:
    """Errors of one family of kernels on one GPU type.

    Attributes:
        gpu: Calibration of the GPU type, which boards with the same chip share.
        family: Kind of kernel and precision.
        rows: Measured shapes.
        fitted: Median absolute relative error where every shape was fitted to.
        held_out: The same on shapes that were left out.
        held_out_mean: Mean absolute relative error on shapes that were left out.
        bias: Median signed relative error on them.
    """

    gpu: str
    family: str
    rows: int
    fitted: float
    held_out: float
    held_out_mean: float
    bias: float


def kernel_errors(tables: KernelTables, fitted: KernelFit) -> list[KernelError]:
    """Fits every family without a fifth of its shapes at a time, and prices these.

    Rows that differ in the number of tokens or sequences only are one shape. A family whose
    coefficients another precision determined is fitted all the same, to itself alone.

    Args:
        tables: Measured kernels.
        fitted: What was fitted to all of them, for what a family does not determine itself.
    """
    start = with_values(Calibration(), kernel_centres() | fitted.values)
    return [_errors(family, tables.gpu, start) for family in families(tables) if len(family.rows)]


def _errors(family: Family[Any], gpu: GPUSpec, start: Calibration) -> KernelError:
    rows = family.rows
    fitted = with_values(start, fit_family(family, gpu, start, rows).values)
    unseen: Floats = np.full(len(rows), np.nan)
    for fold in range(FOLDS):
        out = rows.shape % FOLDS == fold
        if out.any() and not out.all():
            values = fit_family(family, gpu, start, rows.taken(~out)).values
            unseen[out] = family.errors(gpu, with_values(start, values), rows.taken(out))
    return KernelError(
        gpu=gpu.calibration,
        family=family.name,
        rows=len(rows),
        fitted=float(np.median(np.abs(family.errors(gpu, fitted, rows)))),
        held_out=float(np.nanmedian(np.abs(unseen))),
        held_out_mean=float(np.nanmean(np.abs(unseen))),
        bias=float(np.nanmedian(unseen)),
    )


def kernel_table(errors: Sequence[KernelError]) -> str:
    """Returns the errors as a Markdown table, in percent."""
    rows = [
        [
            error.gpu,
            error.family,
            str(error.rows),
            f"{100.0 * error.fitted:.1f} %",
            f"{100.0 * error.held_out:.1f} %",
            f"{100.0 * error.held_out_mean:.1f} %",
            f"{100.0 * error.bias:+.1f} %",
        ]
        for error in errors
    ]
    head = ["GPU", "kernels", "rows", "fitted", "shapes left out", "mean", "bias"]
    return markdown_table(head, rows)
