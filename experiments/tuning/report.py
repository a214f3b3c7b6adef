"""A tuning's results: the fronts as tables, plot, JSON, and as a file that the benchmark reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarking.fronts import LIMITS
from experiments.evaluation.fronts import (
    WORST_RATE,
    FrontStatistics,
    front_statistics,
)
from experiments.evaluation.statistics import Interval
from experiments.reporting.front_plot import draw_front_lines
from experiments.reporting.markdown import markdown_table
from experiments.reporting.numbers import ABSENT, interval_text
from experiments.tuning.runner import QUARTERS, Tuned
from experiments.tuning.space import SearchSpace


def statistics(found: Mapping[str, Tuned]) -> dict[str, FrontStatistics]:
    """Returns the statistics of each controller's front on the test suite."""
    return {name: front_statistics(tuned.episodes, LIMITS) for name, tuned in found.items()}


def tuning_record(
    found: Mapping[str, Tuned], known: Mapping[str, FrontStatistics]
) -> dict[str, Any]:
    """Returns everything that was found, as plain values."""
    record: dict[str, Any] = {}
    for name, tuned in found.items():
        efficiency, violations = (means.tolist() for means in tuned.episodes.means())
        own = known[name]
        record[name] = {
            "trials": tuned.trials,
            "hours": tuned.hours,
            "trained_hours": tuned.trained_hours,
            "tuning_hypervolume": dict(zip(map(str, QUARTERS), tuned.progress, strict=True)),
            "efficiency_at": {
                f"{limit:g}": None if found_at is None else found_at._asdict()
                for limit, found_at in zip(LIMITS, own.at, strict=True)
            },
            "hypervolume": own.hypervolume._asdict(),
            "front": [
                {
                    "values": one.values,
                    "tuning": {"efficiency": one.efficiency, "violations": one.violations},
                    "again": {"efficiency": test[0], "violations": test[1]},
                }
                for one, *test in zip(tuned.front, efficiency, violations, strict=True)
            ],
        }
    return record


def choices(found: Mapping[str, Tuned], spaces: Mapping[str, SearchSpace]) -> dict[str, Any]:
    """Returns the controllers' choices on each front, by name: a benchmark's ``fronts``."""
    return {
        name: [spaces[name].choice(one.values) for one in tuned.front]
        for name, tuned in found.items()
    }


def tuning_report(
    found: Mapping[str, Tuned],
    known: Mapping[str, FrontStatistics],
    facts: Sequence[str],
    *,
    tested: bool,
) -> str:
    """Returns the report as Markdown.

    Args:
        found: The fronts.
        known: Their statistics.
        facts: Lines that say what was run.
        tested: Whether the fronts were evaluated on a suite that the search did not see.
    """
    head = ["controller", "trials", "simulated hours"]
    head += [f"efficiency at {100 * limit:g} % of violations" for limit in LIMITS]
    head += ["hypervolume", "the same in the search after 1/4, 1/2 and all of its trials"]
    rows = []
    for name, tuned in found.items():
        own = known[name]
        hours = f"{tuned.hours:.3g}"
        if tuned.trained_hours:
            hours += f" after {tuned.trained_hours:.0f} of training"
        rows.append(
            [
                f"`{name}`", str(tuned.trials), hours,
                *[ABSENT if at is None else _interval(at, tuned) for at in own.at],
                _interval(own.hypervolume, tuned),
                ", ".join(f"{area:.3f}" for area in tuned.progress),
            ]
        )  # fmt: skip
    where = "the test suite, which the search did not see"
    if not tested:
        where = "the episodes that were tuned on, which is too favourable"
    parts = [
        "# Tuned controllers",
        "\n".join(f"- {fact}" for fact in facts),
        "Efficiency is tokens per joule over Baseline's, violations are those within the power "
        f"budget, both on {where}; `–` where no choice keeps "
        f"to the limit. Hypervolume is the mean gain over limits from 0 to {WORST_RATE:.0%}. "
        "Intervals: 95 % bootstrap over episodes.",
        markdown_table(head, rows, "lrr" + "r" * (len(LIMITS) + 2)),
    ]
    for name, tuned in found.items():
        parts += [f"## `{name}`", _front_table(tuned, tested)]
    return "\n\n".join(parts) + "\n"


def _interval(interval: Interval, tuned: Tuned) -> str:
    """Returns a number with its interval; one episode per scenario has none."""
    if tuned.episodes.efficiency.shape[1] == 1:
        return f"{interval.value:.3f}"
    return interval_text(interval)


def _front_table(tuned: Tuned, tested: bool) -> str:
    keys = list(tuned.front[0].values)
    head = [*(f"`{key}`" for key in keys), "tuning: efficiency", "violations, %"]
    head += ["test: efficiency", "violations, %"] if tested else []
    again = zip(*tuned.episodes.means(), strict=True)
    rows = [
        [
            *(_value(one.values[key]) for key in keys),
            f"{one.efficiency:.3f}", f"{100 * one.violations:.2f}",
            *([f"{efficiency:.3f}", f"{100 * violations:.2f}"] if tested else []),
        ]
        for one, (efficiency, violations) in zip(tuned.front, again, strict=True)
    ]  # fmt: skip
    return markdown_table(head, rows, "r" * len(head))


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower()


def draw_fronts(
    found: Mapping[str, Tuned], known: Mapping[str, FrontStatistics], file: Path
) -> None:
    """Draws efficiency against violations on the test suite, a line with its band each."""
    lines = {name: (tuned.episodes, known[name]) for name, tuned in found.items()}
    draw_front_lines(lines, "Tuned fronts: up and left is better", file)
