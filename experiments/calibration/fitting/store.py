"""Writes a calibration as a choice of the group ``calibration``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from envs.cache import atomic_write_text
from envs.simulator.calibration import Calibration, coefficient_names
from envs.simulator.gpus import GPUSpec
from experiments.calibration.data.measurement import Measurement
from experiments.calibration.fitting.gpu_fit import GPUFit
from experiments.calibration.fitting.simulate import QUANTITIES, Simulation, measured
from experiments.calibration.fitting.uncertainty import ranges

_DIGITS = 4
_HEADER = """\
# Coefficients of the {gpu}, fitted. Fit again: python -m experiments.calibrate gpu={gpu} data=DIR
defaults:
  - /schema/envs/simulator/calibration/Calibration@_here_
  - _self_
"""


def finished(
    gpu: GPUSpec, fitted: GPUFit, rows: Sequence[Measurement], files: Sequence[Path]
) -> Calibration:
    """Returns the fitted calibration with its uncertainty, its data and its errors."""
    calibration = fitted.calibration
    unknown = ranges(gpu, caps_measured=fitted.caps is not None)
    uncertainty = {
        name: _round(value) for name, value in fitted.deviations.items() if name not in unknown
    }
    return replace(
        calibration,
        name=gpu.calibration,
        uncertainty=uncertainty,
        ranges=unknown,
        fitted_on=_source(rows, fitted),
        data_sha256=hash_files(files),
        fitted_rows=" ".join(sorted(m.digest for m in rows)),
        fit_error=errors(rows, calibration),
    )


def _source(rows: Sequence[Measurement], fitted: GPUFit) -> str:
    parts = []
    if rows:
        parts.append(f"{len(rows)} rows of {', '.join(sorted({m.dataset for m in rows}))}")
    if fitted.kernels.values:
        parts.append("kernels of aiconfigurator")
    return " and ".join(parts)


def errors(rows: Sequence[Measurement], calibration: Calibration) -> dict[str, float]:
    """Returns the median absolute percentage error of each measured quantity."""
    result: dict[str, float] = {}
    if not rows:
        return result
    simulated = Simulation(rows).run(calibration)
    for name in QUANTITIES:
        parts = ("power", "throughput") if name == "joules_per_token" else (name,)
        told = np.array([all(m.weights.get(part, 1.0) for part in parts) for m in rows])
        error = np.abs(simulated.quantity(name) / measured(rows, name) - 1.0)[told]
        if np.isfinite(error).any():
            result[name] = round(100.0 * float(np.nanmedian(error)), 2)
    return result


def hash_files(files: Sequence[Path]) -> str:
    """Returns the SHA-256 of the contents of files, in order of name."""
    total = hashlib.sha256()
    for file in sorted(files, key=str):
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def as_yaml(calibration: Calibration, gpu: GPUSpec) -> str:
    """Returns the text of a file in ``conf/calibration``."""
    values: dict[str, Any] = asdict(calibration)
    for name in coefficient_names():
        values[name] = _round(values[name])
    levels = values["run_levels"]
    values["run_levels"] = {run: [_round(x) for x in pair] for run, pair in levels.items()}
    for name in ("engines", "run_levels", "uncertainty", "ranges", "fit_error"):
        if not values[name]:
            del values[name]
    return _HEADER.format(gpu=gpu.name) + OmegaConf.to_yaml(OmegaConf.create(values))


def write(calibration: Calibration, gpu: GPUSpec, folder: Path) -> Path:
    """Writes ``<calibration name>.yaml`` into a folder and returns its path."""
    file = folder / f"{calibration.name}.yaml"
    atomic_write_text(file, as_yaml(calibration, gpu))
    return file


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
