"""Writes a figure's files: the data behind it, and the plot as PNG and PDF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas
from rich.console import Console
from rich.table import Table

from envs.cache import atomic_write_text
from experiments.evaluation.metrics import write_json
from experiments.figures.base import Result
from experiments.figures.claims import Claim, claim_cells
from experiments.records.hashing import simulator_digest
from experiments.records.provenance import git_commit, platform_facts, version

_WIDE = 140


def write_figure(name: str, result: Result, directory: Path) -> None:
    """Writes ``NAME.csv`` and, unless it is a table, ``NAME.png`` and ``NAME.pdf``."""
    frame = pandas.DataFrame(result.rows)
    atomic_write_text(directory / f"{name}.csv", frame.to_csv(index=False, float_format="%.6g"))
    if result.draw is not None:
        result.draw(directory / name)


def write_provenance(directory: Path) -> None:
    """Writes ``provenance.json``: which code made the figures, and on what."""
    write_json(
        directory / "provenance.json",
        {"version": version(), "git_commit": git_commit(), "code_hash": simulator_digest(),
         "platform": platform_facts()},
    )  # fmt: skip


def print_claims(claims: Sequence[Claim], directory: Path) -> None:
    """Prints a line a claim, and where the files are."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    if claims:
        table = Table(title="Claims of arXiv:2605.21427", title_justify="left")
        for column in ("Claim", "Paper", "Ours", "Verdict"):
            table.add_column(column)
        for claim in claims:
            paper, ours = claim_cells(claim)
            table.add_row(claim.claim, paper, ours, claim.verdict)
        console.print(table)
    console.print(f"Files: {directory}", soft_wrap=True, highlight=False)
