"""How the power of other GPU types follows the clock: where the priors and ranges come from.

There is no published measurement of an A100 or H100 that serves under caps. Training runs under
caps on four older GPU types (``zeus-nsdi23``, arXiv:2208.06102) show how far GPU types differ in
``P = floor + (natural - floor) (s x + (1 - s) x^m)``. A run's clock is not in the data: its time is
taken as ``T (c / x + 1 - c)``, with a level ``T`` and a compute fraction ``c`` per run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from experiments.calibration.data.csv_table import RowError, number, read_rows
from experiments.reporting.markdown import markdown_table

Floats = NDArray[np.float64]
GPUS = {"v100": "V100", "p100": "P100", "a40": "A40", "rtx6000": "Quadro RTX 6000"}
_COLUMNS = (
    "dataset", "network", "batch_size", "optimizer", "power_limit", "time_per_epoch",
    "average_power",
)  # fmt: skip
_RUNS_PER_NETWORK = 4
_LEAST_CAPS = 4
_TIME, _POWER = 0.03, 0.05
"""Standard deviations of the logarithm of a time and of a power."""
_CENTRE = np.array([np.log(0.25), 0.8, np.log(10.0)])
_SPREAD = np.array([0.5, 1.0, 0.6])
_CLOCKS = np.linspace(0.1, 1.0, 400)


@dataclass(frozen=True)
class TrainingCaps:
    """The response of one GPU type's power to the clock.

    Attributes:
        gpu: GPU type.
        runs: Number of runs that it was fitted to.
        floor_fraction: Power that does not depend on the clock, over the highest cap.
        linear_fraction: Fraction of the rest that is linear in the clock.
        exponent: Exponent of the remainder.
        time_error: Median absolute error of the epoch time, in percent.
        power_error: Median absolute error of the power, in percent.
    """

    gpu: str
    runs: int
    floor_fraction: float
    linear_fraction: float
    exponent: float
    time_error: float
    power_error: float


@dataclass(frozen=True)
class _Run:
    cap_w: Floats
    time_s: Floats
    power_w: Floats


def study_training(folder: Path) -> list[TrainingCaps]:
    """Fits every file of the folder; an empty list where the folder is not there."""
    responses = []
    for key, name in GPUS.items():
        file = folder / f"summary_power_{key}.csv"
        if file.is_file():
            responses.append(_fit(name, _runs(file)))
    return responses


def training_table(responses: Sequence[TrainingCaps]) -> str:
    """Returns the study as a Markdown table."""
    head = [
        "GPU (training)",
        "runs",
        "floor / highest cap",
        "linear fraction s",
        "exponent m",
        "error of time",
        "of power",
    ]
    rows = [
        [
            response.gpu,
            str(response.runs),
            f"{response.floor_fraction:.2f}",
            f"{response.linear_fraction:.2f}",
            f"{response.exponent:.1f}",
            f"{response.time_error:.1f} %",
            f"{response.power_error:.1f} %",
        ]
        for response in responses
    ]
    return markdown_table(head, rows)


def _runs(file: Path) -> list[_Run]:
    """Returns, per network, the runs that were measured under the most caps."""
    cells: dict[tuple[str, str], dict[str, list[tuple[float, float, float]]]] = {}
    for _, row in read_rows(file, _COLUMNS):
        try:
            point = (
                number(row, "power_limit"),
                number(row, "time_per_epoch"),
                number(row, "average_power"),
            )
        except RowError:
            continue  # a run that did not finish
        network = (str(row["dataset"]), str(row["network"]))
        shape = f"{row['batch_size']} {row['optimizer']}"
        cells.setdefault(network, {}).setdefault(shape, []).append(point)
    runs = []
    for shapes in cells.values():
        most = sorted(shapes.values(), key=len)[-_RUNS_PER_NETWORK:]
        runs += [_Run(*np.array(sorted(points)).T) for points in most if len(points) >= _LEAST_CAPS]
    return runs


def _fit(name: str, runs: Sequence[_Run]) -> TrainingCaps:
    highest_w = max(float(run.cap_w.max()) for run in runs)
    begin = [*_CENTRE]
    for run in runs:
        begin += [np.log(run.power_w.max()), np.log(run.time_s.min()), 1.5]

    def errors(x: Floats) -> tuple[Floats, Floats]:
        floor_w, linear, exponent = np.exp(x[0]) * highest_w, _fraction(x[1]), np.exp(x[2])
        curve = linear * _CLOCKS + (1.0 - linear) * _CLOCKS**exponent
        time, power = [], []
        for run, (natural, level, compute) in zip(runs, x[3:].reshape(-1, 3), strict=True):
            natural_w, compute_fraction = np.exp(natural), _fraction(compute)
            base_w = min(floor_w, natural_w)
            above_w = max(natural_w - base_w, 1e-9)
            left = np.clip((np.minimum(run.cap_w, natural_w) - base_w) / above_w, curve[0], 1.0)
            clock = np.interp(left, curve, _CLOCKS)
            slower = compute_fraction / clock + 1.0 - compute_fraction
            time.append(np.log(np.exp(level) * slower / run.time_s))
            power.append(np.log((base_w + above_w * left) / run.power_w))
        return np.concatenate(time), np.concatenate(power)

    def residuals(x: Floats) -> Floats:
        time, power = errors(x)
        priors = [(x[:3] - _CENTRE) / _SPREAD, (x[5::3] - 1.5) / 1.5]
        return np.concatenate([time / _TIME, power / _POWER, *priors])

    solution = least_squares(residuals, np.array(begin), loss="soft_l1", max_nfev=60)
    time, power = errors(solution.x)
    return TrainingCaps(
        gpu=name,
        runs=len(runs),
        floor_fraction=float(np.exp(solution.x[0])),
        linear_fraction=float(_fraction(solution.x[1])),
        exponent=float(np.exp(solution.x[2])),
        time_error=100.0 * float(np.median(np.abs(np.expm1(time)))),
        power_error=100.0 * float(np.median(np.abs(np.expm1(power)))),
    )


def _fraction(x: float) -> float:
    return float(1.0 / (1.0 + np.exp(-x)))
