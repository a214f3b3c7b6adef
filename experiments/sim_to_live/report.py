"""Shows a comparison of a live server with its simulation."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from experiments.sim_to_live.comparison import RESOLUTION, Transfer

_NAMES = {
    "throughput_tok_s": ("tok/s", 1.0, 1),
    "power_mean_w": ("W", 1.0, 1),
    "tokens_per_joule": ("tok/J", 1.0, 3),
    "tpot_p50_s": ("TPOT ms", 1e3, 1),
    "ttft_p50_s": ("TTFT ms", 1e3, 0),
    "qos_violation_rate_backlog": ("QoS violations %", 100.0, 1),
}


def _cells(result: Transfer) -> list[list[str]]:
    table = []
    rows = {(row["controller"], row["figure"]): row for row in result.rows()}
    for name in result.live:
        cells = [name]
        for figure, (_, factor, digits) in _NAMES.items():
            row = rows[name, figure]
            values = [row["live"], row["simulated"]]
            if None in values:
                cells.append("-")
                continue
            shown = " / ".join(f"{value * factor:.{digits}f}" for value in values)
            sign = "points" if figure.startswith("qos") else "%"
            gap = "" if row["gap"] is None else f" ({100 * row['gap']:+.0f} {sign})"
            cells.append(shown + gap)
        table.append(cells)
    return table


def _heads(result: Transfer) -> list[str]:
    heads = [f"{label}, live / simulated" for label, _, _ in _NAMES.values()]
    return [
        "controller",
        *(f"{h} ({result.power_source})" if " W," in f" {h}" else h for h in heads),
    ]


def as_markdown(result: Transfer) -> str:
    """Returns the comparison as a Markdown table with a line on fit and ranking."""
    heads = _heads(result)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(cells) + " |" for cells in _cells(result)]
    return "\n".join([*lines, "", *_remarks(result)]) + "\n"


def _remarks(result: Transfer) -> list[str]:
    live, simulated = (
        " > ".join(" = ".join(group) for group in side) for side in result.rankings()
    )
    same = "the same" if result.same_ranking else "not the same"
    fit = result.fit
    return [
        f"Fit to {fit.rows} settings: median error {100 * fit.throughput_error:.1f} % of "
        f"throughput, {100 * fit.power_error:.1f} % of power ({result.power_source}).",
        f"Ranking by tokens per joule (equal within {RESOLUTION:.0%}), live: {live}; "
        f"simulated: {simulated}; {same}.",
    ]


def print_transfer(result: Transfer, directory: Path) -> None:
    """Prints the comparison."""
    console = Console()
    table = Table(title="Live server and simulator", show_lines=True)
    for head in _heads(result):
        table.add_column(head)
    for cells in _cells(result):
        table.add_row(*cells)
    console.print(table)
    for remark in _remarks(result):
        console.print(remark)
    console.print(f"Files: {directory}")
