"""Simulates rows with coefficients that were not fitted to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed

from envs import catalog
from envs.simulator.calibration import Calibration
from envs.simulator.gpus import GPUSpec
from experiments.calibration.data.measurement import Measurement
from experiments.calibration.fitting.ablation import WHOLE, Ablation
from experiments.calibration.fitting.gpu_fit import GPUFit, fit_gpu
from experiments.calibration.fitting.kernel_fit import NO_KERNELS, KernelFit
from experiments.calibration.fitting.simulate import Simulated, Simulation, measured

Group = Callable[[Measurement], str]
MIN_GROUPS = 2
"""Fewest groups that must remain to fit to; with fewer the result says nothing about the rest."""


@dataclass(frozen=True)
class Evaluated:
    """One simulated row.

    Attributes:
        measurement: The row.
        split: How its coefficients were simulated; see :data:`SPLITS`.
        simulated: Simulated quantities by name, with ``clock``.
    """

    measurement: Measurement
    split: str
    simulated: dict[str, float]


FITTED, HELD_OUT, FAMILY_OUT = "fitted", "held_out", "held_out_family"
APART, ALL_ROWS = "held_out_apart", "held_out_all_rows"
SPLITS = {
    FITTED: "rows the installed calibration was fitted to, simulated with it",
    HELD_OUT: "rows simulated with coefficients not fitted to them: their model left out "
    "(cap sweep: their cap left out), or a row the calibration never saw",
    FAMILY_OUT: "the same with the model's whole family left out",
    APART: "rows kept apart (host-bound GPU or server, another engine); none was fitted to",
    ALL_ROWS: "held_out and held_out_apart together",
}


def by_model(m: Measurement) -> str:
    """Groups rows by model: checkpoints of one shape are one model."""
    return m.model.name


def by_family(m: Measurement) -> str:
    """Groups rows by model family."""
    return m.model.family


def by_cap(m: Measurement) -> str:
    """Groups rows of a cap sweep by cap."""
    return f"{m.cap_w:g} W"


def evaluate(
    rows: Sequence[Measurement], calibration: Calibration, split: str, without: Ablation = WHOLE
) -> list[Evaluated]:
    """Simulates rows with one calibration."""
    if not rows:
        return []
    simulated = Simulation(rows, without).run(calibration)
    return [Evaluated(m, split, _values(simulated, index)) for index, m in enumerate(rows)]


def _values(simulated: Simulated, index: int) -> dict[str, float]:
    return {
        "itl": float(simulated.itl_s[index]),
        "tpot": float(simulated.tpot_s[index]),
        "throughput": float(simulated.throughput_tok_s[index]),
        "power": float(simulated.power_w[index]),
        "joules_per_token": float(simulated.power_w[index] / simulated.throughput_tok_s[index]),
        "clock": float(simulated.clock_fraction[index]),
        "binding": float(simulated.binding[index]),
    }


def leave_out(
    gpu: GPUSpec,
    rows: Sequence[Measurement],
    group: Group,
    split: str,
    near: GPUFit | None,
    processes: int,
    without: Ablation = WHOLE,
    kernels: KernelFit = NO_KERNELS,
) -> list[Evaluated]:
    """Simulates every row with a fit to the rows of all other groups.

    Args:
        gpu: GPU type.
        rows: Rows that are fitted to.
        group: What is left out together.
        split: Name of the result.
        near: A fit to all rows, to start from.
        processes: Processes to use.
        without: What the model of the step lacks.
        kernels: What was fitted to this GPU type's kernels.

    Returns:
        The simulated rows; none when fewer than :data:`MIN_GROUPS` groups would be left.
    """
    groups = sorted({group(m) for m in rows})
    if len(groups) <= MIN_GROUPS:
        return []
    jobs = (
        delayed(_fold)(gpu, rows, group, name, split, near, without, kernels) for name in groups
    )
    parts = Parallel(n_jobs=min(processes, len(groups)))(jobs)
    return [evaluated for part in parts for evaluated in part]


def _fold(
    gpu: GPUSpec,
    rows: Sequence[Measurement],
    group: Group,
    left_out: str,
    split: str,
    near: GPUFit | None,
    without: Ablation,
    kernels: KernelFit,
) -> list[Evaluated]:
    kept = [m for m in rows if group(m) != left_out]
    calibration = fit_gpu(gpu, kept, near, without, kernels).calibration
    return evaluate([m for m in rows if group(m) == left_out], calibration, split, without)


def installed(gpu: GPUSpec) -> Calibration:
    """Returns the calibration that is installed for a GPU type."""
    simulated: Calibration = catalog.build("calibration", gpu.calibration)
    return simulated


def relative_errors(evaluated: Sequence[Evaluated], quantity: str) -> np.ndarray:
    """Returns simulated over measured less 1; ``nan`` where nothing was measured."""
    real = measured([j.measurement for j in evaluated], quantity)
    return np.array([j.simulated[quantity] for j in evaluated]) / real - 1.0
