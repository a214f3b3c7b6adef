"""Accuracy targets, beside the errors on rows that no fit saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from experiments.calibration.validation.operating_points import DECODE, kind_of
from experiments.calibration.validation.time_series import Played, repeat_noise_w
from experiments.calibration.validation.validate import Validation, cap_binds, with_apart
from experiments.reporting.markdown import markdown_table

Condition = Callable[[Evaluated], bool]
QUANTITY_NAMES = {
    "itl": "inter-token latency",
    "tpot": "TPOT",
    "throughput": "throughput",
    "power": "power",
    "joules_per_token": "J/token",
}
_LATENCIES = ("itl", "tpot", "throughput")
_A100_80GB = "a100_sxm4_80gb"
_KERNELS = {"products": "matrix products", "routed": "routed experts", "attention": "attention"}


class AccuracyTarget(NamedTuple):
    """A target for the median error of one quantity.

    Attributes:
        what: Rows and quantity.
        limit: Highest acceptable size of the error; ``None`` where it is only reported.
        reached: The median error, with its sign where the signed errors' median is asked for.
        rows: Number of rows.
        unit: What both are counted in.
    """

    what: str
    limit: float | None
    reached: float
    rows: int
    unit: str = "%"

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; ``None`` without a limit."""
        return None if self.limit is None else abs(self.reached) <= self.limit


def accuracy_targets(validation: Validation) -> list[AccuracyTarget]:
    """Returns every target for which there are rows."""
    evaluated = [*validation.evaluated, *with_apart(validation.evaluated)]
    return [
        *_server_targets(evaluated),
        *_a100_targets(validation, evaluated),
        *_first_token_targets(validation),
        *_kernel_targets(validation),
        *_cap_targets(evaluated),
        *_time_targets(validation.played),
    ]


def _server_targets(evaluated: Sequence[Evaluated]) -> Iterator[AccuracyTarget]:
    v3 = _of("mlenergy-v3")
    yield from _medians(
        evaluated, "H100, model left out", 4.0, "h100_sxm", HELD_OUT, _LATENCIES, v3
    )
    name = "H100, model left out"
    yield from _medians(evaluated, name, 5.0, "h100_sxm", HELD_OUT, ("power",), v3)
    yield from _medians(evaluated, name, 6.0, "h100_sxm", HELD_OUT, ("joules_per_token",), v3)
    names = (*_LATENCIES, "power")
    yield from _medians(evaluated, "H100, family left out", None, "h100_sxm", FAMILY_OUT, names, v3)
    yield from _medians(
        evaluated, "H100, MoE family left out", 7.0, "h100_sxm", FAMILY_OUT, _LATENCIES, _moe
    )
    for name, split, limits in (
        ("B200, not host-bound, model left out", HELD_OUT, (7.0, None, 9.0)),
        ("B200, not host-bound, family left out", FAMILY_OUT, (None, None, None)),
        ("B200, all rows, model left out", ALL_ROWS, (None, None, None)),
    ):
        parts = (_LATENCIES, ("power",), ("joules_per_token",))
        for limit, quantities in zip(limits, parts, strict=True):
            yield from _medians(evaluated, name, limit, "b200", split, quantities)
    name = "A100-40GB, batch 1-64, model left out"
    yield from _medians(evaluated, name, 5.0, "a100_sxm4_40gb", HELD_OUT, ("tpot", "throughput"))
    yield from _medians(evaluated, name, None, "a100_sxm4_40gb", HELD_OUT, ("power",))


def _medians(
    evaluated: Sequence[Evaluated],
    name: str,
    limit: float | None,
    gpu: str,
    split: str,
    quantities: Sequence[str],
    only: Condition = lambda j: True,
) -> Iterator[AccuracyTarget]:
    part = [
        j for j in evaluated if (j.measurement.gpu.name, j.split) == (gpu, split) and only(j)
    ]  # fmt: skip
    for quantity in quantities:
        errors = relative_errors(part, quantity) if part else np.array([])
        yield from _median(f"{name}: {QUANTITY_NAMES[quantity]}", limit, np.abs(errors))


def _median(what: str, limit: float | None, errors: np.ndarray) -> Iterator[AccuracyTarget]:
    known = errors[np.isfinite(errors)]
    if known.size:
        yield AccuracyTarget(what, limit, 100.0 * float(np.median(known)), int(known.size))


def _a100_targets(
    validation: Validation, evaluated: Sequence[Evaluated]
) -> Iterator[AccuracyTarget]:
    """Power of the A100 with 80 GB, its sign too; each model by a fit without it."""
    held = [
        j
        for j in evaluated
        if j.measurement.gpu.calibration == _A100_80GB
        and j.split == HELD_OUT
        and j.measurement.weights.get("power", 1.0) > 0.0
    ]
    parts: dict[str, list[Evaluated]] = {
        "dense, decode": [], "MoE, decode": [], "with prompts": [], "whole batches": []
    }  # fmt: skip
    for j in held:
        m = j.measurement
        if m.host_bound:
            parts["whole batches"].append(j)
        elif kind_of(m) != DECODE:
            parts["with prompts"].append(j)
        else:
            parts["MoE, decode" if m.model.experts else "dense, decode"].append(j)
    for name, part in parts.items():
        errors = relative_errors(part, "power") if part else np.array([])
        what = f"A100-80GB, {name}, model left out: power"
        yield from _median(what, 7.0, np.abs(errors))
        yield from _median(f"{what}, with its sign", 7.0, errors)
    times = [j for j in held if not j.measurement.host_bound]
    errors = relative_errors(times, "tpot") if times else np.array([])
    yield from _median("A100-80GB, model left out: time of a step", 5.0, np.abs(errors))
    idle = [i for i in validation.idle if i.gpu.calibration == _A100_80GB]
    errors = np.array([i.gpu.idle_power_w / i.power_w - 1.0 for i in idle])
    yield from _median("A100-80GB, idle, as its sheet says: power", 7.0, np.abs(errors))


def _first_token_targets(validation: Validation) -> Iterator[AccuracyTarget]:
    for name, limit, moe in (("dense", 12.0, False), ("MoE", 15.0, True)):
        errors = [
            abs(s.error)
            for s in validation.first_tokens
            if bool(s.measured.run.model_spec.experts) is moe
        ]
        yield from _median(f"TTFT at light load, {name}, not fitted to", limit, np.array(errors))


def _kernel_targets(validation: Validation) -> Iterator[AccuracyTarget]:
    for prefix, name in _KERNELS.items():
        found = [k for k in validation.kernels if k.family.startswith(prefix)]
        for gpu in dict.fromkeys(k.gpu for k in found):
            part = [k for k in found if k.gpu == gpu]
            rows = sum(k.rows for k in part)
            mean = sum(k.rows * k.held_out for k in part) / rows
            what = f"kernels, shapes left out, {gpu}: {name}"
            yield AccuracyTarget(what, 8.0, 100.0 * mean, rows)


def _cap_targets(evaluated: Sequence[Evaluated]) -> Iterator[AccuracyTarget]:
    errors = interior(evaluated)
    for part, limit in (("interior caps", 1.0), ("lowest cap", 5.0)):
        if part in errors:
            error = errors[part]
            name = f"RTX PRO 6000, unseen {part}: tok/s"
            yield AccuracyTarget(name, limit, error["median_ape"], int(error["n"]))
    swept = [j for j in evaluated if j.measurement.has_level and j.split == HELD_OUT]
    if swept:
        ends = {min(j.measurement.cap_w for j in swept), max(j.measurement.cap_w for j in swept)}
        inner = [
            j for j in swept if j.measurement.cap_w not in ends and not cap_binds(j.measurement)
        ]
        if inner:
            error_w = 100.0 * float(np.median(np.abs(relative_errors(inner, "power"))))
            name = "RTX PRO 6000, unseen interior caps that do not bind: power"
            yield AccuracyTarget(name, 1.0, error_w, len(inner))
    for loss in cap_losses(evaluated):
        split = "fitted" if loss["split"] == "fitted" else "lowest cap unseen"
        off = abs(loss["simulated_loss_percent"] - loss["measured_loss_percent"])
        name = f"loss at 300 W, {loss['run']}, {split} (points)"
        yield AccuracyTarget(name, 3.0, off, 1)


def _time_targets(played: Sequence[Played]) -> Iterator[AccuracyTarget]:
    """Errors of windows of a quarter second, over those of repeats of the same load."""
    watched = [p for p in played if not p.load.inferred]
    noise_w = repeat_noise_w([p.load for p in watched])
    if noise_w is None:
        return
    for stream, name in ((False, "repeated load steps"), (True, "a stream of arrivals")):
        part = [p for p in watched if ("poisson" in p.load.name) is stream]
        windows = sum(int(p.load.compared.sum()) for p in part)
        if windows:
            squares = sum(int(p.load.compared.sum()) * p.rmse_w**2 for p in part)
            ratio = float(np.sqrt(squares / windows)) / noise_w
            what = f"H100, power in windows of 0.25 s, {name}: RMSE over the repeats' noise"
            yield AccuracyTarget(what, 1.5, ratio, windows, "times")


def target_table(targets: Sequence[AccuracyTarget]) -> str:
    """Returns the targets as a Markdown table."""
    rows = []
    for target in targets:
        met = {None: "", True: "yes", False: "**no**"}[target.met]
        highest = "–" if target.limit is None else f"≤ {target.limit:g} {target.unit}"
        sign = "+" if "with its sign" in target.what else ""
        reached = f"{target.reached:{sign}.1f} {target.unit}"
        rows.append([target.what, str(target.rows), highest, reached, met])
    return markdown_table(["what", "rows", "goal", "measured", ""], rows)


def _of(dataset: str) -> Condition:
    return lambda j: j.measurement.dataset == dataset


def _moe(j: Evaluated) -> bool:
    return bool(j.measurement.model.experts) and j.measurement.dataset == "mlenergy-v3"
