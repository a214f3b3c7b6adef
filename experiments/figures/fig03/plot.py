"""Draws figure 3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.figures.fig03.data import (
    ALL_KNOBS,
    CAP_AND_BATCH,
    HARDWARE,
    SOFTWARE,
    KnobGridResults,
)
from experiments.figures.grid import best, frontier
from experiments.figures.plot_marks import FORMATS, model_label, note, stem
from experiments.figures.text import FigureText
from experiments.reporting.plot_style import BLACK, GREEN, ORANGE, SKY, saved_plot

_STYLE = {
    SOFTWARE: (ORANGE, "s", 1.4),
    HARDWARE: (BLACK, "x", 1.2),
    CAP_AND_BATCH: (GREEN, "^", 3.4),
    ALL_KNOBS: (SKY, "o", 6.0),
}
"""Colour, mark and width; sets with more points are wider and lie below."""

_MOST_TICKS = 5
"""Labels of five digits run into each other where there are more."""


def draw(text: FigureText, data: KnobGridResults, models: Sequence[str], file: Path) -> None:
    """Draws all points and the frontier of each set of knobs, one panel per model."""
    count = len(models)
    size = (4.0 * count, 3.9)
    with saved_plot(stem(file), 1, count, size, formats=FORMATS, squeeze=False) as (figure, grid):
        for axis, model in zip(grid[0], models, strict=True):
            _sets(axis, data, model)
            _paper(axis, text, data, model)
            axis.set_title(model_label(model))
            axis.set_xlabel("Tokens/s")
            axis.set_xlim(left=0)
            axis.locator_params(axis="x", nbins=_MOST_TICKS)
            axis.set_ylim(bottom=0)
        grid[0][0].set_ylabel("Tokens per joule")
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)


def _sets(axis: Any, data: KnobGridResults, model: str) -> None:
    own = {p: s for p, s in data.states.items() if p.model == model}
    for name, has in data.sets.members().items():
        color, mark, width = _STYLE[name]
        cloud = [
            (float(np.mean(state.tokens_per_s())), float(np.mean(state.per_joule())))
            for point, state in own.items()
            if has(point)
        ]
        xs, ys = zip(*cloud, strict=True)
        axis.plot(xs, ys, mark, color=color, ms=3, alpha=0.35, mew=0.6)
        xs, ys = zip(*frontier(cloud), strict=True)
        style: dict[str, Any] = {"ms": 4.0 + 0.8 * width, "lw": width, "zorder": 9 - width}
        axis.plot(xs, ys, mark + "-", color=color, label=name, **style)


def _paper(axis: Any, text: FigureText, data: KnobGridResults, model: str) -> None:
    paper = text.claims["joint"].papers()
    if model not in paper:
        return
    software = best(data.states, model, data.sets.members()[SOFTWARE])
    expected = paper[model] * float(np.mean(software))
    axis.axhline(expected, color=BLACK, lw=1.2, ls=(0, (2, 1)))
    mark = text.phrase("joint_mark", paper=paper[model])
    note(axis, mark, (0.02, expected), (0, 3), xycoords=("axes fraction", "data"))
