"""Plots of a validation: measured against simulated, and the response to caps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.calibration.fitting.simulate import measured
from experiments.calibration.validation.cross_validation import FITTED, HELD_OUT, Evaluated
from experiments.reporting.plot_style import BLUE, GREEN, GREY, ORANGE, RED, log_scale, saved_plot

GPU_COLOURS = {
    "h100_sxm": BLUE,
    "b200": ORANGE,
    "a100_sxm4_40gb": GREEN,
    "rtx_pro_6000": RED,
}
_PANELS = (
    ("itl", 1e3, "Inter-token latency (ms)"),
    ("tpot", 1e3, "Time per output token (ms)"),
    ("power", 1.0, "Power of all GPUs (W)"),
    ("joules_per_token", 1.0, "Energy per output token (J)"),
)


def draw_all(evaluated: Sequence[Evaluated], directory: Path) -> list[Path]:
    """Draws every plot of a validation for which there are rows."""
    drawn = []
    for split in (FITTED, HELD_OUT):
        part = [j for j in evaluated if j.split == split and not j.measurement.has_level]
        if part:
            drawn.append(draw_scatter(part, directory / f"measured_simulated_{split}.png", split))
    part = [j for j in evaluated if j.split == HELD_OUT and not j.measurement.has_level]
    if part:
        drawn.append(draw_errors(part, directory / "error_by_batch.png"))
    swept = [j for j in evaluated if j.measurement.has_level]
    if swept:
        drawn.append(draw_caps(swept, directory / "power_caps.png"))
    return drawn


def draw_scatter(evaluated: Sequence[Evaluated], file: Path, split: str) -> Path:
    """Draws simulated over measured values of four quantities, one colour per GPU."""
    with saved_plot(file, 2, 2, (8.2, 7.4)) as (figure, axes):
        for axis, (quantity, factor, label) in zip(axes.flat, _PANELS, strict=True):
            _scatter(axis, evaluated, quantity, factor, label)
        axes.flat[1].legend(loc="upper left", markerscale=2.0)
        figure.suptitle(
            f"Measured and simulated, {split.replace('_', ' ')} rows", x=0.02, ha="left"
        )
    return file


def _scatter(
    axis: Any, evaluated: Sequence[Evaluated], quantity: str, factor: float, label: str
) -> None:
    extremes: list[float] = []
    for gpu, colour in GPU_COLOURS.items():
        part = [j for j in evaluated if j.measurement.gpu.name == gpu]
        real = factor * measured([j.measurement for j in part], quantity)
        simulated = factor * np.array([j.simulated[quantity] for j in part])
        good = np.isfinite(real)
        if good.any():
            axis.scatter(real[good], simulated[good], s=9, color=colour, alpha=0.6, lw=0, label=gpu)
            extremes += [real[good].min(), real[good].max()]
    if not extremes:
        axis.set(title=f"{label}: not measured")
        return
    low, high = 0.8 * min(extremes), 1.25 * max(extremes)
    line = np.array([low, high])
    axis.fill_between(line, 0.9 * line, 1.1 * line, color=GREY, alpha=0.2, lw=0)
    axis.plot(line, line, color=GREY, lw=0.9)
    log_scale(axis.xaxis)
    log_scale(axis.yaxis)
    axis.set(xlim=(low, high), ylim=(low, high))
    axis.set(xlabel="measured", ylabel="simulated", title=label)


def draw_errors(evaluated: Sequence[Evaluated], file: Path) -> Path:
    """Draws held-out errors of TPOT and power over the batch size, dense and MoE apart."""
    with saved_plot(file, 1, 2, (9.2, 3.8), sharex=True) as (_, axes):
        for axis, (quantity, label) in zip(
            axes, (("tpot", "Time per output token"), ("power", "Power")), strict=True
        ):
            for moe, colour, name in ((False, BLUE, "dense"), (True, ORANGE, "MoE")):
                part = [j for j in evaluated if bool(j.measurement.model.experts) == moe]
                real = measured([j.measurement for j in part], quantity)
                error = 100.0 * (np.array([j.simulated[quantity] for j in part]) / real - 1.0)
                batch = np.array([j.measurement.batch for j in part])
                good = np.isfinite(error)
                axis.scatter(
                    batch[good], error[good], s=9, color=colour, alpha=0.6, lw=0, label=name
                )
            axis.axhline(0.0, color=GREY, lw=0.9)
            axis.set(xscale="log", xlabel="sequences at once", title=label, ylim=(-65, 65))
            axis.set_ylabel("simulated over measured, held out (%)")
        axes[0].legend(markerscale=2.0)
    return file


def draw_caps(evaluated: Sequence[Evaluated], file: Path) -> Path:
    """Draws tok/s and clock of a cap sweep: measured, fitted and with the cap left out."""
    runs = sorted({j.measurement.run for j in evaluated})
    with saved_plot(file, 2, len(runs), (3.0 * len(runs), 5.4), sharex=True, squeeze=False) as (
        _,
        axes,
    ):
        for column, run in enumerate(runs):
            rows = [j for j in evaluated if j.measurement.run == run]
            panels = (("throughput", "tok/s"), ("clock", "SM clock / highest"))
            for axis, (quantity, label) in zip(axes[:, column], panels, strict=True):
                _cap_panel(axis, rows, quantity)
                axis.set_ylabel(label if column == 0 else "")
            axes[0, column].set_title(run.replace(" ", "\n", 1), fontsize=8.5)
            axes[1, column].set_xlabel("power cap (W)")
        axes[0, 0].legend(loc="lower right")
    return file


def _cap_panel(axis: Any, rows: Sequence[Evaluated], quantity: str) -> None:
    for split, colour, marker, label in (
        (FITTED, BLUE, "", "simulated, fitted"),
        (HELD_OUT, ORANGE, "o", "simulated, cap left out"),
    ):
        part = sorted((j for j in rows if j.split == split), key=lambda j: j.measurement.cap_w)
        if not part:
            continue
        caps = [j.measurement.cap_w for j in part]
        values = [j.simulated[quantity] for j in part]
        axis.plot(caps, values, color=colour, marker=marker, ms=4, ls="-" if not marker else "")
        axis.lines[-1].set_label(label)
    known = {j.measurement.cap_w: j.measurement for j in rows}
    real = measured(list(known.values()), quantity)
    axis.plot(list(known), real, "x", color="black", ms=5, label="measured")
    axis.set_ylim(bottom=0.0)
