"""What people see of a training: a table at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.app.terminal import shown

_COLUMNS = (
    ("efficiency", "tok/J against Baseline", 1.0),
    ("qos_violation_rate", "QoS viol. %", 100.0),
    ("slo_violation_rate", "SLO viol. %", 100.0),
    ("budget_overshoot_rate", "over budget %", 100.0),
    ("ttft_p99_s", "TTFT p99 s", 1.0),
)


def print_training(evaluation: Mapping[str, Any], directory: Path) -> None:
    """Prints a trained agent's last evaluation, a row a held-out setting."""
    table = Table(
        title=f"Held-out settings after {evaluation['steps']:,} decisions", title_justify="left"
    )
    table.add_column("Setting")
    for _, name, _ in _COLUMNS:
        table.add_column(name, justify="right")
    rows = {**evaluation["settings"], "mean": evaluation["mean"]}
    for name, row in rows.items():
        table.add_row(name, *[shown(row[key], factor) for key, _, factor in _COLUMNS])
    console = Console()
    console.print(table)
    console.print(
        f"Files: {directory}\nRun it: python -m experiments.run controller=agent "
        f"controller.bundle={directory}",
        soft_wrap=True,
        highlight=False,
    )
