"""What people see on the terminal: progress while a run lasts, tables at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table

from baselines.profile import Profile

Figure = tuple[str, str, str, float]
"""Key in the summary, name for people, unit, and factor into that unit."""

FIGURES: tuple[Figure, ...] = (
    ("tokens_per_joule", "Tokens per joule (GPUs)", "tok/J", 1.0),
    ("tokens_per_joule_system", "Tokens per joule (node)", "tok/J", 1.0),
    ("throughput_tok_s", "Throughput (output)", "tok/s", 1.0),
    ("power_mean_w", "Mean power (all GPUs)", "W", 1.0),
    ("energy_gpu_j", "Energy (GPUs)", "kJ", 1e-3),
    ("qos_violation_rate", "QoS violations, against Baseline", "%", 100.0),
    ("qos_violation_rate_backlog", "QoS violations, backlog-aware", "%", 100.0),
    ("qos_violation_rate_plain", "QoS violations, plain", "%", 100.0),
    ("slo_violation_rate", "Latency-SLO violations", "%", 100.0),
    ("ttft_p50_s", "Time to first token, median", "s", 1.0),
    ("ttft_p99_s", "Time to first token, p99", "s", 1.0),
    ("tpot_p50_s", "Time per output token, median", "ms", 1e3),
    ("tpot_p99_s", "Time per output token, p99", "ms", 1e3),
    ("power_tracking_error_w", "Power tracking error", "W", 1.0),
    ("budget_overshoot_rate", "Time above the power budget", "%", 100.0),
    ("cap_binding_fraction", "Time the cap binds", "%", 100.0),
    ("knob_changes", "Knob changes", "", 1.0),
    ("requests_finished", "Requests finished", "", 1.0),
    ("requests_rejected", "Requests rejected", "", 1.0),
)

CLUSTER_FIGURES: tuple[Figure, ...] = (
    ("budget_mean_w", "Power budget, mean", "W", 1.0),
    ("power_in_scope_mean_w", "Power within its scope, mean", "W", 1.0),
    ("energy_over_budget_j", "Energy over the budget", "kJ", 1e-3),
    ("infeasible_fraction", "Time the budget cannot be met", "%", 100.0),
    ("down_fraction", "Time nodes are down", "%", 100.0),
)
"""What the summary of a cluster's run has besides."""


class Progress:
    """Progress bars on standard error; one for each thing that is being done."""

    def __init__(self) -> None:
        self._bars = Bars(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def update(self, what: str, done: int, total: int) -> None:
        """Shows that ``done`` of ``total`` parts of ``what`` are done."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)


def shown(value: float | None, factor: float = 1.0) -> str:
    """Returns a number with four digits that matter, or a dash for what does not apply."""
    if value is None:
        return "–"
    scaled = value * factor
    return f"{scaled:,.0f}" if abs(scaled) >= 1000 or isinstance(value, int) else f"{scaled:.4g}"


def print_run(summary: Mapping[str, Any], directory: Path) -> None:
    """Prints the figures of a run, and where its files are."""
    table = Table(title=f"{summary['controller']}, seed {summary['seed']}", title_justify="left")
    table.add_column("Figure")
    table.add_column("Value", justify="right")
    table.add_column("Unit")
    for key, name, unit, factor in (*FIGURES, *CLUSTER_FIGURES):
        if summary.get(key) is not None:
            table.add_row(name, shown(summary[key], factor), unit)
    console = _console()
    console.print(table)
    if "nodes" in summary:
        console.print(_nodes(summary["nodes"]))
        for event in summary["events"]:
            console.print(event, highlight=False)
    console.print(f"Files: {directory}", soft_wrap=True, highlight=False)


def _nodes(nodes: Mapping[str, Mapping[str, Any] | None]) -> Table:
    """Returns the main figures of a cluster's nodes, a row a node."""
    columns = [figure for figure in COMPARED if figure[0] != "tokens_per_joule_relative"]
    table = Table(title="Nodes", title_justify="left")
    table.add_column("Node")
    for _, name, unit, _ in columns:
        table.add_column(f"{name}\n{unit}", justify="right")
    for node, figures in nodes.items():
        cells = [shown((figures or {}).get(key), factor) for key, _, _, factor in columns]
        table.add_row(node, *cells)
    return table


COMPARED: tuple[Figure, ...] = (
    ("tokens_per_joule", "Tokens", "/J", 1.0),
    ("tokens_per_joule_relative", "relative", "", 1.0),
    ("qos_violation_rate", "QoS viol.", "%", 100.0),
    ("slo_violation_rate", "SLO viol.", "%", 100.0),
    ("budget_overshoot_rate", "> budget", "%", 100.0),
    ("ttft_p99_s", "TTFT p99", "s", 1.0),
    ("tpot_p99_s", "TPOT p99", "ms", 1e3),
    ("power_mean_w", "Power", "W", 1.0),
)
_WIDE = 120
"""Width of tables that go to a file, where nobody can widen the window."""


def print_comparison(aggregate: Mapping[str, Any], directory: Path) -> None:
    """Prints interquartile means and intervals of the main figures, a row a controller."""
    controllers = aggregate["controllers"]
    columns = [f for f in COMPARED if any(cells[f[0]] for cells in controllers.values())]
    table = Table(
        title=f"Interquartile mean over {len(aggregate['seeds'])} seeds, 95 % interval below",
        title_justify="left",
    )
    table.add_column("Controller")
    for _, name, unit, _ in columns:
        table.add_column(f"{name}\n{unit}", justify="right")
    for controller, cells in controllers.items():
        table.add_row(controller, *[_cell(cells[key], factor) for key, _, _, factor in columns])
    console = _console()
    console.print(table)
    console.print(f"Files: {directory}", soft_wrap=True, highlight=False)


def _cell(figure: Mapping[str, Any] | None, factor: float) -> str:
    if figure is None:
        return shown(None)
    low, high = (f"{figure[end] * factor:.3g}" for end in ("ci_low", "ci_high"))
    return f"{shown(figure['iqm'], factor)}\n[dim]{low}…{high}[/dim]"


def print_profile(profile: Profile, directory: Path, cached: Path) -> None:
    """Prints tokens per joule by cap and batch limit for the server's own size."""
    own = (profile.tensor_parallel, profile.expert_parallel, profile.data_parallel)
    rows = [
        row
        for row in profile.rows
        if (row.tensor_parallel, row.expert_parallel, row.data_parallel) == own
    ]
    batches = sorted({row.max_num_seqs for row in rows})
    table = Table(
        title=f"Output tokens/s and per joule, TP {own[0]}, EP {own[1]}, DP {own[2]}",
        title_justify="left",
    )
    table.add_column("Cap W", justify="right")
    for batch in batches:
        table.add_column(f"batch {batch}", justify="right")
    for cap in sorted({row.power_cap_w for row in rows}):
        cells = {row.max_num_seqs: row for row in rows if row.power_cap_w == cap}
        table.add_row(
            shown(cap),
            *[
                f"{shown(cells[b].throughput_tok_s)}\n"
                f"[dim]{shown(cells[b].throughput_tok_s / cells[b].power_w)}[/dim]"
                for b in batches
            ],
        )
    console = _console()
    console.print(table)
    console.print(f"Files: {directory}\nCached: {cached}", soft_wrap=True, highlight=False)
