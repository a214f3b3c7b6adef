"""The benchmark's plots: efficiency against violations, over all scenarios and in each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarking.metrics import Results, column, overall
from experiments.evaluation.metric_table import TOKENS_PER_JOULE_RELATIVE, WITHIN_BUDGET
from experiments.evaluation.statistics import bootstrap
from experiments.reporting.plot_style import distinct_colors, optional_plot, saved_plot

_MARKERS = "osDv^*XPh<>pd8"


@optional_plot
def draw_overall(results: Results, controllers: Sequence[str], file: Path) -> None:
    """Draws each controller's mean efficiency against its mean QoS violations, with intervals."""
    with saved_plot(file, 1, 1, (6.4, 4.4)) as (_, axis):
        for name, style in _styles(controllers).items():
            efficiency = overall(results, name, TOKENS_PER_JOULE_RELATIVE)
            violations = overall(results, name, WITHIN_BUDGET)
            if efficiency is None or violations is None:
                continue
            color, marker = style
            x, y = violations.mean, efficiency.mean
            axis.plot([100 * x.low, 100 * x.high], [y.value, y.value], color=color, lw=3, alpha=0.4)
            axis.plot([100 * x.value, 100 * x.value], [y.low, y.high], color=color, lw=3, alpha=0.4)
            axis.plot([100 * x.value], [y.value], marker, color=color, ms=8, label=name)
        axis.set_xlabel("QoS violations within budget, % of time (mean over scenarios)")
        axis.set_ylabel("Tokens per joule, relative to Baseline")
        axis.set_title("All scenarios: up and left is better")
        axis.legend(loc="best")


@optional_plot
def draw_scenarios(results: Results, controllers: Sequence[str], file: Path) -> None:
    """Draws efficiency and QoS violations of each controller in each scenario."""
    names = list(results)
    panels = ((TOKENS_PER_JOULE_RELATIVE, "Tokens per joule, relative", 1.0),
              (WITHIN_BUDGET, "QoS violations within budget, % of time", 100.0))  # fmt: skip
    with saved_plot(file, 1, 2, (10.0, 1.2 + 0.42 * len(names)), sharey=True) as (_, axes):
        for axis, (key, title, factor) in zip(axes, panels, strict=True):
            for number, (controller, style) in enumerate(_styles(controllers).items()):
                offset = 0.7 * ((number + 0.5) / len(controllers) - 0.5)
                _draw_column(axis, results, controller, key, factor, offset, style)
            axis.set_title(title)
        axes[0].set_yticks(range(len(names)), names)
        axes[0].set_ylim(len(names) - 0.5, -0.5)
        axes[1].legend(loc="best")


def _draw_column(
    axis: Any, results: Results, controller: str, key: str, factor: float, offset: float,
    style: tuple[str, str],
) -> None:  # fmt: skip
    color, marker = style
    label = controller
    for row, scenario in enumerate(results):
        values = column(results, scenario, controller, key)
        if values is None:
            continue
        interval = bootstrap(values)
        height = row + offset
        ends = [factor * interval.low, factor * interval.high]
        axis.plot(ends, [height, height], color=color, lw=2, alpha=0.4)
        axis.plot([factor * interval.value], [height], marker, color=color, ms=4, label=label)
        label = "_nolegend_"


def _styles(controllers: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Returns colour and marker of each controller; no colour is there twice."""
    colors = distinct_colors(len(controllers))
    return {
        name: (color, _MARKERS[number % len(_MARKERS)])
        for number, (name, color) in enumerate(zip(controllers, colors, strict=True))
    }
