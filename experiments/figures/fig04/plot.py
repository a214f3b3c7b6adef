"""Draws figures 4 and 5."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.evaluation.statistics import FloatArray
from experiments.figures.claims import interval_of
from experiments.figures.fig04.data import LAYOUTS, NodeScaling
from experiments.figures.plot_marks import FORMATS, line, model_label, note, stem
from experiments.figures.text import FigureText
from experiments.reporting.plot_style import BLACK, saved_plot

Series = Callable[[str, str], FloatArray]
"""Values by model and layout."""


def draw(text: FigureText, data: NodeScaling, file: Path) -> None:
    """Draws efficiency and throughput over the number of nodes."""
    with saved_plot(stem(file), 1, 2, (8.4, 3.9), formats=FORMATS) as (figure, axes):
        _lines(axes[0], data, data.efficiency)
        _lines(axes[1], data, data.throughput)
        if "loss" in text.claims:
            _paper(axes[0], text, data)
        axes[0].set_title("Tokens per joule, 1 node = 1")
        axes[1].set_title("Throughput, 1 node = 1")
        for axis in axes:
            axis.set_xlabel("Nodes of 4 GPUs")
            axis.set_xticks(data.sweep.nodes)
            axis.set_ylim(bottom=0)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)


def _lines(axis: Any, data: NodeScaling, series: Series) -> None:
    faint = {"label": None, "band": False, "lw": 0.6, "ms": 2.5, "alpha": 0.5, "ls": ":"}
    for model in data.sweep.models:
        for layout in LAYOUTS:
            own = [interval_of(values) for values in series(model, layout)]
            style: dict[str, Any] = {} if layout == data.sweep.layout else faint
            line(axis, data.sweep.nodes, own, model, **style)


def _paper(axis: Any, text: FigureText, data: NodeScaling) -> None:
    most = data.sweep.nodes[-1]
    for model, paper in text.claims["loss"].papers().items():
        if model in data.sweep.models:
            at = 1.0 + paper
            axis.plot(most + 0.07, at, marker="_", ms=14, mew=2, color=BLACK, zorder=6)
            mark = text.phrase("loss_mark", model=model_label(model), paper=paper)
            note(axis, mark, (most + 0.02, at), (-10, 4), ha="right")
