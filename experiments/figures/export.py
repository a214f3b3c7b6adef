"""Writes the files of figures: data, plots, claims and provenance; prints the claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas
from rich.console import Console
from rich.table import Table

from envs.cache import atomic_write_text
from envs.sources import code_hash
from experiments.evaluation.metrics import write_json
from experiments.figures.base import Result
from experiments.figures.claims import Claim
from experiments.figures.wording import claim_cells, sensitivity_range
from experiments.records.provenance import git_commit, platform_facts, version

RECORD = (
    "id",
    "figure",
    "claim",
    "paper",
    "ours",
    "low",
    "high",
    "scenario",
    "verdict",
    "reason",
)
"""Keys of a claim in ``claims.json``."""
CLAIM_FILES = ("claims.json", "sensitivity.csv")
_WIDE = 140


def write_figure(name: str, result: Result, directory: Path) -> None:
    """Writes ``NAME.csv`` and, unless it is a table, ``NAME.png`` and ``NAME.pdf``."""
    frame = pandas.DataFrame(result.rows)
    atomic_write_text(directory / f"{name}.csv", frame.to_csv(index=False, float_format="%.6g"))
    if result.draw is not None:
        result.draw(directory / name)


def write_claims(claims: Sequence[Claim], directory: Path) -> None:
    """Writes ``claims.json``, and ``sensitivity.csv`` with the claims' values by choice."""
    write_json(directory / CLAIM_FILES[0], [record(claim) for claim in claims])
    rows = [
        {"claim": claim.id, "unit": claim.unit, **asdict(case)}
        for claim in claims
        for case in claim.sensitivity
    ]
    columns = ["claim", "unit", "choice", "value", "low", "high"]
    frame = pandas.DataFrame(rows, columns=columns)
    text = frame.to_csv(index=False, float_format="%.6g")
    atomic_write_text(directory / CLAIM_FILES[1], text)


def record(claim: Claim) -> dict[str, Any]:
    """Returns a claim with the keys of :data:`RECORD`; its reason names the sensitivity, too."""
    reason = claim.reason
    if claim.sensitivity:
        reason += " " + sensitivity_range(claim)
    if claim.unsaid:
        reason += f" What would settle it: {claim.unsaid}."
    values = {**asdict(claim), "reason": reason}
    return {key: values[key] for key in RECORD}


def write_provenance(directory: Path) -> None:
    """Writes ``provenance.json``: the code and the platform that made the figures."""
    facts = {
        "version": version(),
        "git_commit": git_commit(),
        "code_hash": code_hash(),
        "platform": platform_facts(),
    }
    write_json(directory / "provenance.json", facts)


def print_claims(claims: Sequence[Claim], directory: Path) -> None:
    """Prints the claims with their verdicts, and the folder of the files."""
    console = Console(markup=False)
    if not console.is_terminal:
        console = Console(width=_WIDE, markup=False)
    if claims:
        table = Table(title="Claims of arXiv:2605.21427", title_justify="left")
        for column in ("Claim", "Paper", "Ours", "Verdict"):
            table.add_column(column)
        for claim in claims:
            paper, ours = claim_cells(claim)
            table.add_row(claim.claim, paper, ours, claim.verdict)
        console.print(table)
    console.print(f"Files: {directory}", soft_wrap=True, highlight=False)
