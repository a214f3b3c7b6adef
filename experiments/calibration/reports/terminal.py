"""Prints the results of a calibration or a validation on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from envs.simulator.calibration import Calibration
from experiments.calibration.data.measurement import Measurement, Skipped
from experiments.calibration.fitting.pipeline import reasons
from experiments.calibration.reports.tables import ERROR_COLUMNS, error_rows


def print_calibration(
    calibration: Calibration,
    rows: Sequence[Measurement],
    skipped: Sequence[Skipped],
    written: Sequence[Path],
) -> None:
    """Prints the coefficients, their fit error and the skipped rows."""
    console = Console(markup=False)
    table = Table("coefficient", "value", "relative deviation", title=calibration.name)
    for name, deviation in calibration.uncertainty.items():
        table.add_row(name, f"{getattr(calibration, name):.4g}", f"{100 * deviation:.0f} %")
    console.print(table)
    fit = ", ".join(f"{name} {error:g} %" for name, error in calibration.fit_error.items())
    console.print(f"Fitted to {len(rows)} rows; median absolute error: {fit}")
    print_skipped(console, skipped)
    for file in written:
        console.print(f"Wrote {file}", soft_wrap=True)


def print_skipped(console: Console, skipped: Sequence[Skipped]) -> None:
    """Prints how many rows were skipped, and why."""
    for dataset, reason, count in reasons(skipped):
        console.print(f"Skipped {count} rows of {dataset}: {reason}", soft_wrap=True)


def print_stage(stage: str) -> None:
    """Prints the name of a stage to standard error."""
    Console(stderr=True, markup=False).print(stage)


def print_validation(
    errors: Sequence[dict[str, Any]], skipped: Sequence[Skipped], written: Sequence[Path]
) -> None:
    """Prints the errors of a validation and the skipped rows."""
    console = Console(width=max(120, Console().width), markup=False)
    table = Table(*ERROR_COLUMNS, title="median / mean absolute error, %")
    for cells in error_rows(errors):
        table.add_row(*cells)
    console.print(table)
    print_skipped(console, skipped)
    for file in written:
        console.print(f"Wrote {file}", soft_wrap=True)
