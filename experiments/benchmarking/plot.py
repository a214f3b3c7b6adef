"""The benchmark's plots: efficiency against violations, over all scenarios and in each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarking.metrics import Results, column, overall
from experiments.evaluation.metric_table import TOKENS_PER_JOULE_RELATIVE, WITHIN_BUDGET
from experiments.evaluation.statistics import bootstrap
from experiments.reporting.plot_style import COLORS, optional_plot, saved_plot

_MARKERS = "osDv^*XP"


@optional_plot
def draw_overall(results: Results, controllers: Sequence[str], file: Path) -> None:
    """Draws each controller's mean efficiency against its mean QoS violations, with intervals."""
    with saved_plot(file, 1, 1, (6.4, 4.4)) as (_, axis):
        for number, name in enumerate(controllers):
            efficiency = overall(results, name, TOKENS_PER_JOULE_RELATIVE)
            violations = overall(results, name, WITHIN_BUDGET)
            if efficiency is None or violations is None:
                continue
            color, marker = _style(number)
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
            for number, controller in enumerate(controllers):
                _draw_column(axis, results, controller, key, factor, number, len(controllers))
            axis.set_title(title)
        axes[0].set_yticks(range(len(names)), names)
        axes[0].set_ylim(len(names) - 0.5, -0.5)
        axes[1].legend(loc="best")


def _draw_column(
    axis: Any, results: Results, controller: str, key: str, factor: float, number: int, count: int
) -> None:
    color, marker = _style(number)
    label = controller
    for row, scenario in enumerate(results):
        values = column(results, scenario, controller, key)
        if values is None:
            continue
        interval = bootstrap(values)
        height = row + 0.7 * ((number + 0.5) / count - 0.5)
        ends = [factor * interval.low, factor * interval.high]
        axis.plot(ends, [height, height], color=color, lw=2, alpha=0.4)
        axis.plot([factor * interval.value], [height], marker, color=color, ms=4, label=label)
        label = "_nolegend_"


def _style(number: int) -> tuple[str, str]:
    return COLORS[number % len(COLORS)], _MARKERS[number % len(_MARKERS)]
