"""Draws figure 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.figures.fig02.data import StepTimes, middle_90_percent
from experiments.figures.operating_point import OperatingPoint
from experiments.figures.plot_marks import FORMATS, model_label, stem
from experiments.reporting.plot_style import BLACK, BLUE, ORANGE, saved_plot


def draw(times: Mapping[OperatingPoint, StepTimes], models: Sequence[str], file: Path) -> None:
    """Draws the fractions of a step's time as stacked bars, one panel per model."""
    count = len(models)
    size = (2.9 * count, 3.6)
    with saved_plot(stem(file), 1, count, size, formats=FORMATS, sharey=True, squeeze=False) as (
        figure,
        grid,
    ):
        for axis, model in zip(grid[0], models, strict=True):
            own = {point: t for point, t in times.items() if point.model == model}
            for x, step in enumerate(own.values()):
                _bar(axis, x, step)
            ticks = [f"TP{point.tensor}\nB{point.batch}" for point in own]
            axis.set_xticks(range(len(own)), ticks, fontsize=7.5)
            axis.set_title(model_label(model))
            axis.grid(visible=False, axis="x")
        grid[0][0].set_ylabel("Fraction of a step's time, %")
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)


def _bar(axis: Any, x: int, times: StepTimes) -> None:
    fraction = 100.0 * times.communication_fraction
    compute = 100.0 - fraction[0]
    low, high = middle_90_percent(fraction)
    labels = ("compute", "communication") if x == 0 else (None, None)
    axis.bar(x, compute, 0.7, color=BLUE, label=labels[0])
    hatched = {"color": ORANGE, "hatch": "//", "edgecolor": "white"}
    axis.bar(x, fraction[0], 0.7, bottom=compute, label=labels[1], **hatched)
    axis.plot([x, x], [100.0 - high, 100.0 - low], color=BLACK, lw=1.2)
