"""The plot of a comparison: what each controller saves, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.evaluation.metric_table import METRICS, TOKENS_PER_JOULE_RELATIVE, Metric
from experiments.reporting.plot_style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    log_scale,
    optional_plot,
    saved_plot,
)

_PANELS = (
    (METRICS[TOKENS_PER_JOULE_RELATIVE], "Tokens per joule, relative", BLUE),
    (METRICS["qos_violation_rate"], "QoS violations, % of time", RED),
    (METRICS["slo_violation_rate"], "Latency-SLO violations, % of requests", ORANGE),
    (METRICS["budget_overshoot_rate"], "Above the power budget, % of time", ORANGE),
    (METRICS["ttft_p99_s"], "Time to first token, p99, s", GREEN),
)
_MOST_PANELS = 4
_LOG_FROM = 20.0
"""Ratio of largest to smallest value from which latency gets a logarithmic axis."""


@optional_plot
def draw_comparison(aggregate: Mapping[str, Any], file: Path) -> None:
    """Draws interquartile means with their intervals, and every run as a dot.

    Args:
        aggregate: What :func:`experiments.comparison.runner.aggregate` returns.
        file: Where the PNG goes.
    """
    controllers: Mapping[str, Any] = aggregate["controllers"]
    names = list(controllers)
    panels = [p for p in _PANELS if all(controllers[name][p[0].key] is not None for name in names)]
    panels = panels[:_MOST_PANELS]
    size = (1.6 + 2.9 * len(panels), 1.5 + 0.42 * len(names))
    with saved_plot(file, 1, len(panels), size, sharey=True, squeeze=False) as (figure, grid):
        for axis, (metric, title, color) in zip(grid[0], panels, strict=True):
            cells = [controllers[name][metric.key] for name in names]
            for row, cell in enumerate(cells):
                _draw_cell(axis, row, cell, metric.factor, color)
            axis.set_title(title)
            axis.grid(visible=False, axis="y")
            axis.tick_params(axis="y", length=0)
            _scale(axis, metric, cells)
        grid[0][0].set_yticks(range(len(names)), names)
        grid[0][0].set_ylim(len(names) - 0.5, -0.5)
        seeds = len(aggregate["seeds"])
        figure.supxlabel(
            f"Interquartile mean and 95 % bootstrap interval over {seeds} seeds; dots are runs",
            fontsize=8.5,
        )


def _draw_cell(axis: Any, row: int, cell: Mapping[str, Any], factor: float, color: str) -> None:
    values = [factor * value for value in cell["values"]]
    axis.plot(values, [row] * len(values), "o", color=GREY, ms=3.5, alpha=0.6, mew=0, zorder=2)
    ends = [factor * cell["ci_low"], factor * cell["ci_high"]]
    axis.plot(ends, [row, row], color=color, lw=4.0, alpha=0.35, solid_capstyle="butt", zorder=3)
    axis.plot([factor * cell["iqm"]], [row], "D", color=color, ms=6.0, zorder=4)


def _scale(axis: Any, metric: Metric, cells: list[Mapping[str, Any]]) -> None:
    values = [value for cell in cells for value in cell["values"]]
    if metric.key == TOKENS_PER_JOULE_RELATIVE:
        axis.axvline(1.0, color=GREY, lw=1.0, ls="--", zorder=1)
    elif metric.unit == "s" and min(values) > 0 and max(values) > _LOG_FROM * min(values):
        log_scale(axis.xaxis)
    else:
        axis.set_xlim(left=min(0.0, axis.get_xlim()[0]))
