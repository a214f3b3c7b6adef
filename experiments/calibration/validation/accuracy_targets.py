"""Accuracy targets, beside the errors on rows that no fit saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.calibration.validation.cap_response import cap_losses, interior
from experiments.calibration.validation.cross_validation import (
    ALL_ROWS,
    FAMILY_OUT,
    HELD_OUT,
    Evaluated,
    relative_errors,
)
from experiments.calibration.validation.validate import cap_binds, with_apart
from experiments.reporting.markdown import markdown_table

Condition = Callable[[Evaluated], bool]
QUANTITY_NAMES = {
    "itl": "inter-token latency",
    "tpot": "TPOT",
    "throughput": "throughput",
    "power": "power",
    "joules_per_token": "J/token",
}


class AccuracyTarget(NamedTuple):
    """A target for the median error of one quantity.

    Attributes:
        what: Rows and quantity.
        limit: Highest acceptable error in percent (or percentage points); ``None`` where the
            error is only reported.
        reached: The median error.
        rows: Number of rows.
    """

    what: str
    limit: float | None
    reached: float
    rows: int


_LATENCIES = ("itl", "tpot", "throughput")


def accuracy_targets(evaluated: Sequence[Evaluated]) -> list[AccuracyTarget]:
    """Returns every target for which there are rows."""
    evaluated = [*evaluated, *with_apart(evaluated)]
    targets: list[AccuracyTarget] = []

    def add(
        name: str, limit: float | None, gpu: str, split: str, quantities: Sequence[str], *,
        only: Condition = lambda j: True,
    ) -> None:  # fmt: skip
        part = [
            j
            for j in evaluated
            if (j.measurement.gpu.name, j.split) == (gpu, split) and only(j)
        ]  # fmt: skip
        for quantity in quantities:
            errors = relative_errors(part, quantity) if part else np.array([])
            errors = np.abs(errors[np.isfinite(errors)])
            if errors.size:
                error = 100.0 * float(np.median(errors))
                targets.append(
                    AccuracyTarget(f"{name}: {QUANTITY_NAMES[quantity]}", limit, error, errors.size)
                )

    v3, moe = _of("mlenergy-v3"), _moe
    add("H100, model left out", 8.0, "h100_sxm", HELD_OUT, (*_LATENCIES, "power"), only=v3)
    add("H100, family left out", 10.0, "h100_sxm", FAMILY_OUT, (*_LATENCIES, "power"), only=v3)
    add("H100, MoE family left out", 14.0, "h100_sxm", FAMILY_OUT, _LATENCIES, only=moe)
    quantities = (*_LATENCIES, "power", "joules_per_token")
    add("B200, not host-bound, model left out", 10.0, "b200", HELD_OUT, quantities)
    add("B200, not host-bound, family left out", None, "b200", FAMILY_OUT, quantities)
    add("B200, all rows, model left out", None, "b200", ALL_ROWS, quantities)
    names = ("tpot", "throughput", "power")
    add("A100, batch 1-64, model left out", 8.0, "a100_sxm4_40gb", HELD_OUT, names)
    targets += _cap_targets(evaluated)
    return targets


def _cap_targets(evaluated: Sequence[Evaluated]) -> list[AccuracyTarget]:
    targets = []
    errors = interior(evaluated)
    for part, limit in (("interior caps", 1.0), ("lowest cap", 5.0)):
        if part in errors:
            error = errors[part]
            name = f"RTX PRO 6000, unseen {part}: tok/s"
            targets.append(AccuracyTarget(name, limit, error["median_ape"], int(error["n"])))
    swept = [j for j in evaluated if j.measurement.has_level and j.split == HELD_OUT]
    if swept:
        ends = {min(j.measurement.cap_w for j in swept), max(j.measurement.cap_w for j in swept)}
        inner = [
            j for j in swept if j.measurement.cap_w not in ends and not cap_binds(j.measurement)
        ]
        if inner:
            error_w = 100.0 * float(np.median(np.abs(relative_errors(inner, "power"))))
            name = "RTX PRO 6000, unseen interior caps that do not bind: power"
            targets.append(AccuracyTarget(name, 1.0, error_w, len(inner)))
    for loss in cap_losses(evaluated):
        split = "fitted" if loss["split"] == "fitted" else "lowest cap unseen"
        off = abs(loss["simulated_loss_percent"] - loss["measured_loss_percent"])
        name = f"loss at 300 W, {loss['run']}, {split} (points)"
        targets.append(AccuracyTarget(name, 3.0, off, 1))
    return targets


def target_table(targets: Sequence[AccuracyTarget]) -> str:
    """Returns the targets as a Markdown table."""
    rows = []
    for what, limit, reached, count in targets:
        verdict = "" if limit is None else "yes" if reached <= limit else "**no**"
        highest = "–" if limit is None else f"≤ {limit:g} %"
        rows.append([what, str(count), highest, f"{reached:.1f} %", verdict])
    return markdown_table(["held out", "rows", "target", "reached", ""], rows)


def _of(dataset: str) -> Condition:
    return lambda j: j.measurement.dataset == dataset


def _moe(j: Evaluated) -> bool:
    return bool(j.measurement.model.experts) and j.measurement.dataset == "mlenergy-v3"
