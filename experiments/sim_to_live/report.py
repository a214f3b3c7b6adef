"""Shows a comparison of a live server with its simulation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.evaluation.metric_table import Metric
from experiments.reporting.markdown import markdown_table
from experiments.reporting.numbers import ABSENT
from experiments.sim_to_live.comparison import COMPARED, RESOLUTION, Transfer


def _cells(result: Transfer) -> list[list[str]]:
    rows = {(row["controller"], row["metric"]): row for row in result.rows()}
    return [
        [name, *(_cell(rows[name, metric.key], metric) for metric in COMPARED)]
        for name in result.live
    ]


def _cell(row: Mapping[str, Any], metric: Metric) -> str:
    if row["live"] is None or row["simulated"] is None:
        return ABSENT
    both = " / ".join(metric.text(row[side]) for side in ("live", "simulated"))
    unit = "points" if metric.is_rate else "%"
    return both if row["gap"] is None else f"{both} ({100 * row['gap']:+.0f} {unit})"


def _heads(result: Transfer) -> list[str]:
    heads = [f"{metric.head}, live / simulated" for metric in COMPARED]
    sources = [f" ({result.power_source})" if m.key == "power_mean_w" else "" for m in COMPARED]
    return ["controller", *map(str.__add__, heads, sources)]


def as_markdown(result: Transfer) -> str:
    """Returns the comparison as a Markdown table with a line on fit and ranking."""
    table = markdown_table(_heads(result), _cells(result))
    return "\n".join([table, "", *_remarks(result)]) + "\n"


def _remarks(result: Transfer) -> list[str]:
    live, simulated = (
        " > ".join(" = ".join(group) for group in side) for side in result.rankings()
    )
    same = "the same" if result.same_ranking else "not the same"
    fit = result.fit
    return [
        f"Fit to {fit.rows} measurements: median error {100 * fit.throughput_error:.1f} % of "
        f"throughput, {100 * fit.power_error:.1f} % of power ({result.power_source}).",
        f"Ranking by tokens per joule (equal within {RESOLUTION:.0%}), live: {live}; "
        f"simulated: {simulated}; {same}.",
    ]


def print_transfer(result: Transfer, directory: Path) -> None:
    """Prints the comparison."""
    console = Console(markup=False)
    table = Table(title="Live server and simulator", show_lines=True)
    for head in _heads(result):
        table.add_column(head)
    for cells in _cells(result):
        table.add_row(*cells)
    console.print(table)
    for remark in _remarks(result):
        console.print(remark)
    console.print(f"Files: {directory}")
