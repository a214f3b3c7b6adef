"""Draws figure 7."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.figures.claims import mean_interval
from experiments.figures.fig07.data import Strategies, StrategyRuns
from experiments.figures.plot_marks import (
    FORMATS,
    bar,
    controller_ticks,
    gpu_label,
    note,
    paper_mark,
    stem,
)
from experiments.figures.text import FigureText
from experiments.reporting.plot_style import BLACK, BLUE, ORANGE, RED, saved_plot

_OWNERS = {"gpu": "GPUs", "system": "nodes"}
_COLORS = {"gpu": BLUE, "system": ORANGE}


def draw(
    strategies: Strategies,
    outcomes: StrategyRuns,
    names: Sequence[str],
    scopes: Sequence[str],
    file: Path,
    marked: FigureText | None,
) -> None:
    """Draws efficiency above, violations below, one column per GPU type.

    Args:
        strategies: The scenarios.
        outcomes: Their metrics.
        names: Controllers.
        scopes: Whose energy counts.
        file: Stem of the files.
        marked: Text with the paper's values to mark; ``None`` for no marks.
    """
    count = len(strategies.gpus)
    size = (max(5.2, 0.85 * len(names) + 0.8) * count, 5.2)
    options: dict[str, Any] = {
        "squeeze": False,
        "sharex": "col",
        "gridspec_kw": {"height_ratios": [2.4, 1.0]},
    }
    with saved_plot(stem(file), 2, count, size, formats=FORMATS, **options) as (_, grid):
        for column, gpu in enumerate(strategies.gpus):
            own = strategies.of_gpu(outcomes, gpu)
            top, low = grid[0][column], grid[1][column]
            for x, name in enumerate(names):
                _efficiency_bars(top, own, x, name, scopes)
                bar(low, x, mean_interval(100.0 * own.violations(name)), 0.6, RED)
                if marked is not None:
                    _paper(top, marked, x, name)
            top.axhline(1.0, color=BLACK, lw=0.8)
            top.set_title(f"{gpu_label(gpu)}, mean over {len(strategies.models)} models")
            top.set_ylabel("Tokens per joule, Baseline = 1")
            low.set_ylabel("QoS\nviolations, %")
            controller_ticks(low, names)
            top.grid(visible=False, axis="x")
            top.set_ylim(top=1.12 * top.get_ylim()[1])
            if marked is not None or len(scopes) > 1:
                top.legend(loc="upper left", ncols=3)


def _efficiency_bars(
    axis: Any, outcomes: StrategyRuns, x: int, name: str, scopes: Sequence[str]
) -> None:
    width = 0.72 / len(scopes)
    for place, scope in enumerate(scopes):
        own = mean_interval(outcomes.relative(name, scope))
        at = x + (place - 0.5 * (len(scopes) - 1)) * width
        labelled = x == 0 and len(scopes) > 1
        label = f"energy of the {_OWNERS[scope]}" if labelled else None
        bar(axis, at, own, 0.95 * width, _COLORS[scope], label=label)
        inside: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 8, "color": "white"}
        note(axis, f"{own.value:.2f}", (at, own.low), (0, -4), **inside)


def _paper(axis: Any, text: FigureText, x: int, name: str) -> None:
    if name in text.claims:
        label = text.phrase("paper_mark") if name == "pals" else None
        paper_mark(axis, (x - 0.42, x + 0.42), text.claims[name].paper, label)
