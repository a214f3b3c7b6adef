"""Draws caps and clocks over the load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.evaluation.statistics import Interval
from experiments.figures.clock_lock.data import RELATIVE, HeldKnobRuns
from experiments.figures.plot_marks import FORMATS, line, stem
from experiments.reporting.plot_style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    log_scale,
    saved_plot,
)

_PANELS = (
    ("cap_binding_fraction", "Time the cap binds, %", 100.0),
    (RELATIVE, "Tokens per joule, Baseline = 1", 1.0),
    ("ttft_p99_s", "TTFT p99, s", 1.0),
)


def draw(runs: HeldKnobRuns, model: str, file: Path) -> None:
    """Draws one line per cap (solid) and per clock (dashed)."""
    shades = {"cap": iter((BLUE, SKY, GREEN)), "clock": iter((RED, ORANGE, PURPLE))}
    loads = [100 * load for load in runs.loads]
    with saved_plot(stem(file), 1, 3, (12.0, 4.1), formats=FORMATS) as (figure, axes):
        for name in runs.episodes:
            kind = name.split()[0]
            color = next(shades[kind], BLACK) if kind in shades else BLACK
            dashes = {"cap": "-", "clock": "--"}.get(kind, ":")
            style: dict[str, Any] = {"color": color, "ls": dashes, "label": name}
            for axis, (key, _, factor) in zip(axes, _PANELS, strict=True):
                own = [runs.metric(name, load, key) for load in runs.loads]
                scaled = [Interval(*(factor * part for part in value)) for value in own]
                line(axis, loads, scaled, model, **style)
        for axis, (_, title, _) in zip(axes, _PANELS, strict=True):
            axis.set_title(title)
            axis.set_xlabel("Load, % of Baseline's saturated rate")
        log_scale(axes[2].yaxis)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
