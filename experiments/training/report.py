"""What the terminal shows of a training: a table at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.training.policy_evaluation import EVALUATION_TABLE


def print_training(evaluation: Mapping[str, Any], directory: Path) -> None:
    """Prints a trained agent's last evaluation with one row per held-out scenario."""
    table = Table(
        title=f"Held-out scenarios after {evaluation['steps']:,} decisions", title_justify="left"
    )
    table.add_column("Scenario")
    for metric in EVALUATION_TABLE:
        table.add_column(metric.head, justify="right")
    rows = {**evaluation["scenarios"], "mean": evaluation["mean"]}
    for name, row in rows.items():
        table.add_row(name, *[metric.text(row[metric.key]) for metric in EVALUATION_TABLE])
    console = Console(markup=False)
    console.print(table)
    console.print(
        f"Files: {directory}\nRun it: python -m experiments.run controller=agent "
        f"controller.bundle={directory}",
        soft_wrap=True,
        highlight=False,
    )
