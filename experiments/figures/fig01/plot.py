"""Draws figure 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments.figures.claims import interval_of
from experiments.figures.fig01.data import BATCHES, CAPS, Efficiency
from experiments.figures.plot_marks import (
    FORMATS,
    below,
    gpu_label,
    line,
    note,
    paper_mark,
    stem,
)
from experiments.figures.text import FigureText
from experiments.reporting.plot_style import BLACK, saved_plot


def draw(data: Efficiency, panels: str, file: Path, marked: FigureText | None) -> None:
    """Draws each panel of each GPU type.

    Args:
        data: Measured tokens per joule.
        panels: Which panels to draw.
        file: Stem of the files.
        marked: Text with the paper's values to mark; ``None`` for no marks.
    """
    columns = [(gpu, panel) for gpu in data.sweep.gpus for panel in panels]
    size = (4.2 * len(columns), 3.9)
    with saved_plot(stem(file), 1, len(columns), size, formats=FORMATS, squeeze=False) as (_, axes):
        for axis, (gpu, panel) in zip(axes[0], columns, strict=True):
            _lines(axis, data, gpu, panel)
            axis.set_ylim(bottom=0)
            if panel == CAPS:
                _cap_axis(axis, data, gpu, marked)
            else:
                _batch_axis(axis, data, gpu, marked)
            below(axis)


def _lines(axis: Any, data: Efficiency, gpu: str, panel: str) -> None:
    for model in data.sweep.models:
        xs, values = data.series(gpu, model, panel)
        if not len(values):
            continue
        unit = values[0] if panel == BATCHES else np.ones(values.shape[1])
        own = [interval_of(row / unit) for row in values]
        line(axis, xs, own, model)
        if panel == CAPS:
            best = int(np.argmax([v.value for v in own]))
            axis.plot(xs[best], own[best].value, "*", ms=12, color=BLACK, zorder=5)


def _cap_axis(axis: Any, data: Efficiency, gpu: str, marked: FigureText | None) -> None:
    axis.set_title(f"({CAPS}) {gpu_label(gpu)}, batch {data.sweep.batch}")
    axis.set_xlabel("Power cap per GPU, W")
    axis.set_ylabel("Tokens per joule (star: highest)")
    if marked is not None:
        peak = min(marked.claims["peak"].papers().values())
        axis.axvline(peak, color=BLACK, lw=1.2, ls=(0, (2, 1)))
        note(axis, marked.phrase("peak_mark"), (peak + 3, 0), (0, 8))


def _batch_axis(axis: Any, data: Efficiency, gpu: str, marked: FigureText | None) -> None:
    batches = data.sweep.batches
    axis.set_title(f"({BATCHES}) {gpu_label(gpu)}, highest cap")
    axis.set_xscale("log", base=2)
    axis.set_xticks(batches, [str(batch) for batch in batches])
    axis.set_xlabel("Batch size")
    axis.set_ylabel("Tokens per joule, batch 1 = 1")
    if marked is not None:
        for value in marked.claims["batch_gain"].paper:
            paper_mark(axis, (32, 64), value)
        axis.annotate(marked.phrase("gain_mark"), (30, 1.3), fontsize=7.5, ha="right")
