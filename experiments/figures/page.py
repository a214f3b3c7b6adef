"""The page on what of the paper came out: all of it from the results, nothing by hand."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from envs.cache import atomic_write_text
from experiments.figures.base import Result
from experiments.figures.claims import (
    NO_EFFECT,
    TOLERANCE,
    VERDICTS,
    Claim,
    claim_cells,
    range_text,
    shown,
)
from experiments.records.hashing import simulator_digest
from experiments.records.provenance import version

_MOST_READINGS = 40
_HEAD = f"""# What of the paper comes out here

The figures, tables and claims of [arXiv:2605.21427](https://arxiv.org/abs/2605.21427), remade on
the calibrated simulator. `make figures` writes this page and its plots; every number in it is
computed then. No constant of the simulator is tuned to a claim.

**How a claim is evaluated.** A number counts by its effect: its distance from the value that would
mean nothing (1 for a ratio, 0 for a gain). *Reproduced*: our interval meets the paper's value or
range, widened by {TOLERANCE:.0%} of the paper's effect. *Reproduced in direction*: the interval
lies on the paper's side, with at least {NO_EFFECT:.0%} of its effect. Claims in words are evaluated
as their setting or reason says. Intervals are 95 % bootstrap intervals over seeds unless said
otherwise: they say how well the simulator's answer is known, not how well the simulator knows the
hardware. For that there are readings with coefficients drawn within their uncertainty
([physics](physics.md)). A single setting decides the verdict; where the paper leaves a choice open,
the readings show what other choices give.
"""


def write_page(page: Path, results: Mapping[str, Result], directory: Path) -> None:
    """Writes the page and copies its plots beside it.

    Args:
        page: The Markdown file.
        results: The figures by name.
        directory: Folder with their plots.
    """
    claims = [claim for result in results.values() for claim in result.claims]
    lines = [_HEAD, "## Claims", "", _count(claims), "", *_table(claims), ""]
    images = page.parent / "images" / "reproduction"
    for name, result in results.items():
        lines += [f"## {name}: {result.title}", ""]
        if result.draw is not None:
            images.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(directory / f"{name}.png", images / f"{name}.png")
            lines += [f"![{result.title}](images/reproduction/{name}.png)", ""]
        lines += [result.caption, ""]
        if result.draw is None:
            lines += [*_rows(result), ""]
        lines += [*(f"*{note}*" for note in result.notes), *([""] if result.notes else [])]
        lines += [f"Settings: [`conf/figure/{name}.yaml`](../conf/figure/{name}.yaml); again: "
                  f"`python -m experiments.figures figure={name}`.", ""]  # fmt: skip
        for claim in result.claims:
            lines += [*_claim(claim), ""]
    lines += [f"Made by version {version()}; hash of the simulator's code and coefficients: "
              f"`{simulator_digest()}`."]  # fmt: skip
    atomic_write_text(page, "\n".join(lines).rstrip("\n") + "\n")


def _count(claims: list[Claim]) -> str:
    counted = Counter(claim.verdict for claim in claims)
    return f"{len(claims)} claims: " + ", ".join(f"{counted[v]} {v}" for v in VERDICTS) + "."


def _table(claims: list[Claim]) -> list[str]:
    lines = [
        "| figure | the paper says | paper | ours (interval) | verdict |",
        "|---|---|---|---|---|",
    ]
    for claim in claims:
        paper, ours = claim_cells(claim)
        lines.append(f"| {claim.figure} | {claim.claim} | {paper} | {ours} | {claim.verdict} |")
    return lines


def _claim(claim: Claim) -> list[str]:
    paper, ours = claim_cells(claim)
    lines = [
        f"**{claim.claim}.** Paper: {paper}; ours: {ours}. **{claim.verdict.capitalize()}.** "
        f"{claim.reason}" + (f" To settle it the paper would have to give {claim.unsaid}."
                             if claim.unsaid else ""),
        "",
        f"Setting: {claim.setting}.",
    ]  # fmt: skip
    if claim.readings:
        lines += ["", range_text(claim)]
        if 1 < len(claim.readings) <= _MOST_READINGS:
            lines += ["", "<details><summary>All of them</summary>", ""]
            lines += ["| choice | value | interval |", "|---|---|---|"]
            for item in claim.readings:
                ends = "–"
                if item.low is not None and item.high is not None:
                    ends = f"{shown(claim, item.low)} to {shown(claim, item.high)}"
                lines.append(f"| {item.choice} | {shown(claim, item.value)} | {ends} |")
            lines += ["", "</details>"]
        else:
            lines[-1] += " All of them are in `readings.csv`." if claim.readings[1:] else ""
    return lines


def _rows(result: Result) -> list[str]:
    keys = list(result.rows[0])
    lines = ["| " + " | ".join(key.replace("_", " ") for key in keys) + " |",
             "|---" * len(keys) + "|"]  # fmt: skip
    for row in result.rows:
        cells = ["–" if row[key] is None else str(row[key]) for key in keys]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
