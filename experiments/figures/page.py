"""Writes the page on the paper's figures and claims; all of it comes from the results."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from envs.cache import atomic_write_text
from envs.sources import code_hash
from experiments.figures.base import Result
from experiments.figures.claims import NO_EFFECT, TOLERANCE, VERDICTS, Claim
from experiments.figures.former import former_cell, what_changed
from experiments.figures.wording import claim_cells, sensitivity_range, with_unit
from experiments.records.provenance import version
from experiments.reporting.markdown import markdown_table

_MOST_CASES = 40
"""Most sensitivity cases that the page lists; more are in ``sensitivity.csv`` alone."""

_HEAD = f"""# Which results of the paper are reproduced

The figures, tables and claims of [arXiv:2605.21427](https://arxiv.org/abs/2605.21427), made again
on the calibrated simulator. `make figures` writes this page and its plots and computes every number
in it. No constant of the simulator is tuned to a claim.

**How a claim is evaluated.** A number is evaluated by its effect: its distance from the value that
would mean nothing (1 for a ratio, 0 for a gain). *Reproduced*: our interval meets the paper's value
or range, widened by {TOLERANCE:.0%} of the paper's effect. *Reproduced in direction*: our interval
lies on the paper's side, with at least {NO_EFFECT:.0%} of its effect. Claims in words are evaluated
by the rule that their explanation states.

**What the intervals mean.** Unless stated otherwise they are 95 % bootstrap intervals over seeds.
They show how well the simulator's answer is known, not how well the simulator predicts the
hardware; for the latter, sensitivity cases draw the coefficients within their uncertainty
([physics](physics.md)). One scenario decides each verdict. Where the paper leaves a choice open,
the sensitivity cases show the value under other choices.
"""


def write_page(page: Path, results: Mapping[str, Result], directory: Path) -> None:
    """Writes the page and copies its plots beside it.

    Args:
        page: The Markdown file.
        results: The figures by name.
        directory: Folder with their plots.
    """
    claims = [claim for result in results.values() for claim in result.claims]
    lines = [
        _HEAD,
        "## Claims",
        "",
        _count(claims),
        "",
        what_changed(claims),
        "",
        _table(claims),
        "",
    ]
    images = page.parent / "images" / "reproduction"
    for name, result in results.items():
        lines += [f"## {name}: {result.title}", ""]
        if result.draw is not None:
            images.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(directory / f"{name}.png", images / f"{name}.png")
            lines += [f"![{result.title}](images/reproduction/{name}.png)", ""]
        lines += [result.caption, ""]
        if result.draw is None:
            lines += [_rows(result), ""]
        lines += [*(f"*{note}*" for note in result.notes), *([""] if result.notes else [])]
        configuration = f"[`conf/figure/{name}.yaml`](../conf/figure/{name}.yaml)"
        command = f"`python -m experiments.figures figure={name}`"
        lines += [f"Configuration: {configuration}; command: {command}.", ""]
        for claim in result.claims:
            lines += [*_claim(claim), ""]
    lines.append(
        f"Made by version {version()}; hash of the code and the coefficients: `{code_hash()}`."
    )
    atomic_write_text(page, "\n".join(lines).rstrip("\n") + "\n")


def _count(claims: list[Claim]) -> str:
    counted = Counter(claim.verdict for claim in claims)
    return f"{len(claims)} claims: " + ", ".join(f"{counted[v]} {v}" for v in VERDICTS) + "."


def _table(claims: list[Claim]) -> str:
    head = ["figure", "the paper says", "paper", "ours (interval)", "verdict"]
    rows = [[c.figure, c.claim, *claim_cells(c), c.verdict, former_cell(c)] for c in claims]
    return markdown_table([*head, "with the former physics"], rows)


def _claim(claim: Claim) -> list[str]:
    paper, ours = claim_cells(claim)
    unsaid = f" To settle it the paper would have to give {claim.unsaid}." if claim.unsaid else ""
    lines = [
        f"**{claim.claim}.** Paper: {paper}; ours: {ours}. **{claim.verdict.capitalize()}.** "
        f"{claim.reason}{unsaid}",
        "",
        f"Scenario: {claim.scenario}.",
    ]
    if claim.sensitivity:
        lines += ["", sensitivity_range(claim), *_cases(claim)]
    return lines


def _cases(claim: Claim) -> list[str]:
    """Returns the sensitivity cases as a table that unfolds, or where they are found."""
    if len(claim.sensitivity) == 1:
        return []
    if len(claim.sensitivity) > _MOST_CASES:
        return ["All of them are in `sensitivity.csv`."]
    rows = []
    for case in claim.sensitivity:
        ends = "–"
        if case.low is not None and case.high is not None:
            ends = f"{with_unit(claim, case.low)} to {with_unit(claim, case.high)}"
        rows.append([case.choice, with_unit(claim, case.value), ends])
    table = markdown_table(["choice", "value", "interval"], rows)
    return ["", "<details><summary>All of them</summary>", "", table, "", "</details>"]


def _rows(result: Result) -> str:
    keys = list(result.rows[0])
    rows = [["–" if row[key] is None else str(row[key]) for key in keys] for row in result.rows]
    return markdown_table([key.replace("_", " ") for key in keys], rows)
