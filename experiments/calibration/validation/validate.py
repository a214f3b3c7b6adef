"""Evaluates the installed calibrations, and fits of the same method on rows they did not see."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from envs import catalog
from envs.simulator.gpus import GPUSpec
from experiments.calibration.data.kernel_rows import KernelTables
from experiments.calibration.data.measurement import IdlePower, Measurement, Skipped
from experiments.calibration.data.readers import aiconfigurator, light_load, read_measured
from experiments.calibration.data.specifications import find_gpu
from experiments.calibration.fitting.gpu_fit import GPUFit, fit_gpu
from experiments.calibration.fitting.kernel_fit import NO_KERNELS, KernelFit, fit_kernels
from experiments.calibration.fitting.least_squares import AT_CAP
from experiments.calibration.fitting.pipeline import fit_rows, kernel_tables
from experiments.calibration.fitting.simulate import QUANTITIES, measured
from experiments.calibration.validation.ablation_study import study
from experiments.calibration.validation.cross_validation import (
    ALL_ROWS,
    APART,
    FAMILY_OUT,
    FITTED,
    HELD_OUT,
    Evaluated,
    by_cap,
    by_family,
    by_model,
    evaluate,
    installed,
    leave_out,
    relative_errors,
)
from experiments.calibration.validation.first_tokens import SimulatedFirstToken, first_tokens
from experiments.calibration.validation.kernel_errors import KernelError, kernel_errors
from experiments.calibration.validation.load_replay import Replay, replay
from experiments.calibration.validation.operating_points import OperatingPoint, operating_points
from experiments.calibration.validation.time_series import Played, play

ALL = "all"
OnStage = Callable[[str], None]


@dataclass(frozen=True)
class Validation:
    """The result of a validation.

    Attributes:
        evaluated: Every simulated row.
        skipped: Rows that could not be compared.
        files: The data files.
        ablations: Errors with parts of the physics removed; see :mod:`.ablation_study`.
        points: Steady rows of one's own GPU, simulated as the engine does.
        idle: Measured power of servers that idle.
        replays: Recorded loads, replayed on a simulated server.
        played: Loads that were watched in time, and what the simulator made of them.
        kernels: Errors of single kernels.
        first_tokens: TTFT at light load.
    """

    evaluated: list[Evaluated]
    skipped: list[Skipped]
    files: list[Path]
    ablations: list[dict[str, Any]] = field(default_factory=list)
    points: list[OperatingPoint] = field(default_factory=list)
    idle: list[IdlePower] = field(default_factory=list)
    replays: list[Replay] = field(default_factory=list)
    played: list[Played] = field(default_factory=list)
    kernels: list[KernelError] = field(default_factory=list)
    first_tokens: list[SimulatedFirstToken] = field(default_factory=list)


def validate(
    folder: Path,
    *,
    further: Sequence[Path] = (),
    held_out: bool,
    processes: int,
    ablations: bool = False,
    on_stage: OnStage = lambda stage: None,
) -> Validation:
    """Compares every row of a data folder with its simulated counterpart.

    Args:
        folder: Folder with data files.
        further: Further folders, whose rows tell power and clocks only.
        held_out: Whether fits are repeated without each model, family and cap.
        processes: Processes to use.
        ablations: Whether fits are repeated with parts of the physics removed.
        on_stage: Called with the name of each stage.

    Raises:
        WorkloadError: The folder holds no known file, or one is broken.
    """
    data, files = read_measured(folder, further)
    evaluated: list[Evaluated] = []
    studies: list[dict[str, Any]] = []
    known: dict[str, KernelFit] = {}
    kernels: list[KernelError] = []
    for gpu in _gpu_types(data.measurements):
        rows = [m for m in data.measurements if m.gpu.calibration == gpu.calibration]
        on_stage(f"{gpu.calibration}: {len(rows)} rows")
        tables = kernel_tables(folder, gpu) if held_out or ablations else None
        fitted = NO_KERNELS
        if tables is not None:  # boards with the same chip share them
            chip = tables.gpu.calibration
            if chip not in known:
                on_stage(f"{chip}: kernels")
                known[chip] = fit_kernels(tables)
                kernels += kernel_errors(tables, known[chip])
            fitted = known[chip]
        evaluated += _evaluate_gpu(gpu, rows, held_out, processes, on_stage, fitted)
        if ablations:
            on_stage(f"{gpu.calibration}: ablations")
            studied = [m for m in fit_rows(rows, gpu) if not m.has_level]
            studies += study(gpu, studied, processes, fitted)
    if held_out:
        for tables in _further_tables(folder, known):
            on_stage(f"{tables.gpu.calibration}: kernels")
            kernels += kernel_errors(tables, fit_kernels(tables))
    replays = []
    for load in data.loads:
        on_stage(f"{load.gpu.calibration}: {load.run}")
        replays.append(replay(load, installed(load.gpu)))
    points = operating_points(data.measurements)
    on_stage(f"power in time: {len(data.timed)} loads")
    played = [play(load, installed(load.gpu)) for load in data.timed]
    ttft = first_tokens(light_load.read(folder))
    return Validation(
        evaluated, data.skipped, files, studies, points, data.idle, replays, played, kernels, ttft
    )


def _further_tables(folder: Path, known: Collection[str]) -> Iterator[KernelTables]:
    """Returns the kernel tables of GPU types of which no whole server was measured."""
    every = [find_gpu(name) for name in catalog.names("gpu")]
    gpus = [gpu for gpu in every if gpu.calibration not in known]
    for tables in (aiconfigurator.read(one, gpus) for one in aiconfigurator.find(folder)):
        if tables is not None:
            yield tables


def _gpu_types(measurements: Sequence[Measurement]) -> list[GPUSpec]:
    """Returns one GPU type per calibration."""
    gpus: dict[str, GPUSpec] = {}
    for m in measurements:
        gpus.setdefault(m.gpu.calibration, m.gpu)
    return list(gpus.values())


def _evaluate_gpu(
    gpu: GPUSpec,
    rows: Sequence[Measurement],
    held_out: bool,
    processes: int,
    on_stage: OnStage,
    kernels: KernelFit,
) -> list[Evaluated]:
    calibration = installed(gpu)
    digests = set(calibration.fitted_rows.split())
    known = [m for m in rows if m.digest in digests and not m.apart]
    new = [m for m in rows if m.digest not in digests and not m.apart]
    apart = [m for m in rows if m.apart]
    evaluated = evaluate(known, calibration, FITTED)
    evaluated += evaluate(new, calibration, HELD_OUT)
    evaluated += evaluate(new, calibration, FAMILY_OUT) if _families_new(new, known) else []
    evaluated += evaluate(apart, calibration, APART)
    if held_out and known:
        near: GPUFit = fit_gpu(gpu, fit_rows(known, gpu), kernels=kernels)
        swept = [m for m in known if m.has_level]
        others = [m for m in known if not m.has_level]
        for part, group, split in (
            (others, by_model, HELD_OUT),
            (others, by_family, FAMILY_OUT),
            (swept, by_cap, HELD_OUT),
        ):
            if part:
                on_stage(f"{gpu.calibration}: {split}")
                evaluated += leave_out(gpu, part, group, split, near, processes, kernels=kernels)
    return evaluated


def _families_new(new: Sequence[Measurement], known: Sequence[Measurement]) -> bool:
    return not {by_family(m) for m in new} & {by_family(m) for m in known}


def records(evaluated: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """Returns ``{dataset, gpu, split, quantity, n, median_ape, mean_ape, spearman}`` in percent.

    Rows are grouped by data set (and all together), GPU type and split. Under a binding cap
    the power is the cap: such rows are not counted for power and J/token.
    """
    table = []
    everything = [*evaluated, *with_apart(evaluated)]
    for key in sorted({(d, j.measurement.gpu.name, j.split) for j in everything for d in _sets(j)}):
        dataset, gpu, split = key
        part = [
            j
            for j in everything
            if dataset in _sets(j) and (j.measurement.gpu.name, j.split) == (gpu, split)
        ]
        for quantity in QUANTITIES:
            record = _record(part, quantity)
            if record is not None:
                table.append({"dataset": dataset, "gpu": gpu, "split": split, **record})
    return table


def with_apart(evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """Returns held-out rows and rows kept apart under one split, where a data set has both."""
    keys = [(j.measurement.dataset, j.measurement.gpu.name, j.split) for j in evaluated]
    known = set(keys)
    return [
        Evaluated(j.measurement, ALL_ROWS, j.simulated)
        for j, (dataset, gpu, split) in zip(evaluated, keys, strict=True)
        if split in (HELD_OUT, APART) and {(dataset, gpu, HELD_OUT), (dataset, gpu, APART)} <= known
    ]


def _sets(j: Evaluated) -> tuple[str, ...]:
    """Returns the data sets that a row counts for: its own, and all unless it is kept apart."""
    return (
        (j.measurement.dataset,) if j.split in (APART, ALL_ROWS) else (j.measurement.dataset, ALL)
    )


def _record(part: Sequence[Evaluated], quantity: str) -> dict[str, Any] | None:
    if quantity in ("power", "joules_per_token"):
        part = [j for j in part if not cap_binds(j.measurement)]
    errors = relative_errors(part, quantity)
    good = np.isfinite(errors)
    if not good.any():
        return None
    real = measured([j.measurement for j in part], quantity)[good]
    simulated = np.array([j.simulated[quantity] for j in part])[good]
    return {
        "quantity": quantity,
        "n": int(good.sum()),
        "median_ape": round(100.0 * float(np.median(np.abs(errors[good]))), 3),
        "mean_ape": round(100.0 * float(np.mean(np.abs(errors[good]))), 3),
        "spearman": _spearman(simulated, real),
    }


def _spearman(simulated: np.ndarray, real: np.ndarray) -> float | None:
    """Returns the rank correlation; ``None`` where it is not defined."""
    if len(real) < 3 or np.ptp(real) == 0.0 or np.ptp(simulated) == 0.0:
        return None
    return round(float(spearmanr(simulated, real).statistic), 4)


def cap_binds(m: Measurement) -> bool:
    """Whether the measured power of a row of a cap sweep is its cap."""
    if not m.has_level or m.power_w is None:
        return False
    return m.power_w > AT_CAP * m.cap_w * m.parallelism.num_gpus
