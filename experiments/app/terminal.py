"""What the terminal shows: progress while a run lasts, tables at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
from rich.text import Text

from baselines.profile import Profile
from experiments.evaluation.metric_table import (
    COMPARISON_TABLE,
    RUN_TABLE,
    TOKENS_PER_JOULE_RELATIVE,
    Metric,
    applicable,
)
from experiments.reporting.numbers import ABSENT, format_number

_WIDE = 120
"""Width of tables that go to a file, where nobody can widen the window."""


class Progress:
    """Progress bars on standard error; one for each thing that is being done.

    Ctrl-C has it say how much was done of each.

    Args:
        console: Where it is shown; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, markup=False)
        self._bars = Bars(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
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
        if isinstance(error, KeyboardInterrupt) and self._bars.tasks:
            done = [f"{task.description} {task.completed:,.0f} of {task.total or 0:,.0f}"
                    for task in self._bars.tasks]  # fmt: skip
            self._console.print(f"until then: {', '.join(done)}", soft_wrap=True, highlight=False)

    def update(self, what: str, done: int, total: int) -> None:
        """Shows that ``done`` of ``total`` parts of ``what`` are done."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)


def _console() -> Console:
    console = Console(markup=False)
    return console if console.is_terminal else Console(width=_WIDE, markup=False)


def print_lines(lines: Iterable[str]) -> None:
    """Prints lines as they are."""
    console = _console()
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)


def print_run(summary: Mapping[str, Any], directory: Path) -> None:
    """Prints the metrics of a run, and where its files are."""
    table = Table(title=f"{summary['controller']}, seed {summary['seed']}", title_justify="left")
    table.add_column("Metric")
    table.add_column("Value", justify="right")
    table.add_column("Unit")
    for metric in applicable(RUN_TABLE, summary):
        table.add_row(metric.title, metric.text(summary[metric.key]), metric.unit)
    console = _console()
    console.print(table)
    if (
        summary.get("requests_finished")
        and summary.get("ttft_p50_s", 0.0) is None
        and summary.get("qos_violation_rate_plain", 0.0) is None
    ):
        console.print(
            f"Nothing is said of QoS and latency: all of the {summary['duration_s']:g} s are "
            "warm-up (objective.qos.warmup_s); take a longer duration",
            soft_wrap=True, highlight=False,
        )  # fmt: skip
    if "nodes" in summary:
        console.print(_nodes(summary["nodes"]))
        for event in summary["events"]:
            console.print(event, highlight=False)
    console.print(f"Files: {directory}", soft_wrap=True, highlight=False)


def _nodes(nodes: Mapping[str, Mapping[str, Any] | None]) -> Table:
    """Returns the main metrics of a cluster's nodes with one row per node."""
    columns = [metric for metric in COMPARISON_TABLE if metric.key != TOKENS_PER_JOULE_RELATIVE]
    table = Table(title="Nodes", title_justify="left")
    table.add_column("Node")
    for metric in columns:
        table.add_column(f"{metric.short}\n{metric.unit}", justify="right")
    for node, values in nodes.items():
        table.add_row(node, *[metric.text((values or {}).get(metric.key)) for metric in columns])
    return table


def print_description(description: Mapping[str, Any], directory: Path) -> None:
    """Prints what would be simulated, one number a line, and where the file is."""
    table = Table(title=f"{description['model']} on {description['gpu']}", title_justify="left")
    table.add_column("What")
    table.add_column("Value", justify="right")
    for key, value in description.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{count} {name}" for name, count in value.items())
        table.add_row(key, f"{value:,.6g}" if isinstance(value, float) else _grouped(value))
    console = _console()
    console.print(table)
    console.print(f"Files: {directory}", soft_wrap=True, highlight=False)


def _grouped(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def print_comparison(aggregate: Mapping[str, Any], directory: Path) -> None:
    """Prints interquartile means and intervals of the main metrics with one row per controller."""
    controllers = aggregate["controllers"]
    columns = [
        metric
        for metric in COMPARISON_TABLE
        if any(cells[metric.key] for cells in controllers.values())
    ]
    table = Table(
        title=f"Interquartile mean over {len(aggregate['seeds'])} seeds, 95 % interval below",
        title_justify="left",
    )
    table.add_column("Controller")
    for metric in columns:
        table.add_column(f"{metric.short}\n{metric.unit}", justify="right")
    for controller, cells in controllers.items():
        table.add_row(controller, *[_cell(cells[metric.key], metric) for metric in columns])
    console = _console()
    console.print(table)
    console.print(f"Files: {directory}", soft_wrap=True, highlight=False)


def _cell(estimate: Mapping[str, Any] | None, metric: Metric) -> str | Text:
    if estimate is None:
        return ABSENT
    low, high = (f"{estimate[end] * metric.factor:.3g}" for end in ("ci_low", "ci_high"))
    return _with_smaller(metric.text(estimate["iqm"]), f"{low}…{high}")


def _with_smaller(value: str, below: str) -> Text:
    return Text.assemble(f"{value}\n", (below, "dim"))


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
            format_number(cap),
            *[
                _with_smaller(
                    format_number(cells[b].throughput_tok_s),
                    format_number(cells[b].throughput_tok_s / cells[b].power_w),
                )
                for b in batches
            ],
        )
    console = _console()
    console.print(table)
    console.print(f"Files: {directory}\nCached: {cached}", soft_wrap=True, highlight=False)
