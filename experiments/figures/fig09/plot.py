"""Draws figure 9 by throughput QoS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.figures.claims import interval_of
from experiments.figures.fig09.data import BASELINE, PLAIN, REFERENCE, NodeRuns
from experiments.figures.plot_marks import (
    CONTROLLERS,
    FORMATS,
    bar,
    controller_ticks,
    level,
    model_label,
    stem,
)
from experiments.figures.text import FigureText
from experiments.reporting.plot_style import BLACK, BLUE, GREEN, ORANGE, RED, saved_plot

NODE_COLORS = (BLUE, ORANGE, GREEN)
NODE_WIDTH = 0.26
"""Distance between the bars of two nodes."""


def draw(text: FigureText, data: NodeRuns, names: Sequence[str], file: Path) -> None:
    """Draws violations by node on the left, the efficiency of the cluster on the right."""
    size = (2.2 + 1.5 * len(names), 4.2)
    ratios = {"width_ratios": [1.7, 1.0]}
    with saved_plot(stem(file), 1, 2, size, formats=FORMATS, gridspec_kw=ratios) as (figure, axes):
        left, right = axes
        _paper_ranges(left, text, len(names))
        for x, name in enumerate(names):
            _violations(left, text, data, x, name)
            color = CONTROLLERS.get(name, (name, BLACK))[1]
            bar(right, x, interval_of(data.gain(name)), 0.65, color)
        level(right, 1.0 + text.claims["efficiency"].paper, text.phrase("gain_mark"))
        left.set_title("(a) Time below target, %")
        right.set_title("(b) Tokens per joule, Baseline = 1")
        for axis in axes:
            controller_ticks(axis, names)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)


def _paper_ranges(axis: Any, text: FigureText, count: int) -> None:
    """Shades the paper's ranges for Baseline and PALS."""
    for name, words in ((BASELINE, "Baseline"), ("pals", "PALS")):
        low, high = text.claims[f"violations_{name}"].paper
        axis.axhspan(100 * low, 100 * high, color=BLACK, alpha=0.1, lw=0)
        axis.text(count - 0.4, 100 * low, f"paper:\n{words}", fontsize=7.5, va="bottom")
    axis.set_xlim(-0.6, count + 0.35)


def _violations(axis: Any, text: FigureText, data: NodeRuns, x: int, name: str) -> None:
    """Draws a controller's plain violations as bars, the reference-relative ones dotted."""
    plain = 100.0 * data.by_node(name, PLAIN)
    reference = 100.0 * data.by_node(name, REFERENCE)
    for place, (model, color) in enumerate(zip(data.nodes.values(), NODE_COLORS, strict=False)):
        at = x + NODE_WIDTH * (place - 1)
        label = model_label(model) if x == 0 else None
        bar(axis, at, interval_of(plain[:, place]), 0.24, color, label=label)
        own = float(np.mean(reference[:, place]))
        label = text.phrase("reference_mark") if x + place == 0 else None
        axis.plot([at - 0.12, at + 0.12], [own, own], color=RED, lw=2.0, ls=":", label=label)
