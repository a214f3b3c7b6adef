"""The page on what was reproduced, made from the claims."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from envs.cache import atomic_write_text
from experiments.figures.base import Made, PaperFigure
from experiments.figures.claims import Claim, claim_table

_HEAD = """# What of the paper comes out here

Figures and claims of [arXiv:2605.21427](https://arxiv.org/abs/2605.21427), remade on the
calibrated simulator. This page is made by `make figures`; nothing in it is written by hand, and no
constant of the simulator was tuned to a claim. Data behind each picture: `outputs/figures`.

A claim is *reproduced* when our value in the default setting is within a quarter of the paper's
effect (within a tenth, where a value is no effect), *reproduced in direction* when only the sign
agrees. The range does not decide; it is over what the paper leaves open (lengths, load,
which tokens and whose energy count), or over nodes and seeds where it says so. The calibration's
own doubt comes on top: no public data measure how an A100 answers to a cap
([physics](physics.md)).
"""


def write_page(
    page: Path, made: Mapping[str, tuple[PaperFigure, Made]], pictures: Mapping[str, Path]
) -> None:
    """Writes the page and puts its pictures beside it."""
    claims = [claim for _, result in made.values() for claim in result.claims]
    lines = [_HEAD, "## Claims", "", _count(claims), "", *claim_table(claims), "", "Settings:", ""]
    settings: dict[str, list[str]] = {}
    for claim in claims:
        settings.setdefault(claim.setting, []).append(claim.figure)
    for setting, names in settings.items():
        lines.append(f"- {', '.join(dict.fromkeys(names))}: {setting}.")
    lines += ["", "## Figures", ""]
    images = page.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name, (figure, result) in made.items():
        lines += [f"### {figure.title}", "", f"`python -m experiments.figures figure={name}`", ""]
        if name in pictures:
            shutil.copyfile(pictures[name], images / f"{name}.png")
            lines += [f"![{figure.title}](images/{name}.png)", ""]
        elif len(result.data) <= 12:
            lines += [*_as_table(result), ""]
    atomic_write_text(page, "\n".join(lines).rstrip("\n") + "\n")


def _count(claims: Sequence[Claim]) -> str:
    counted = Counter(claim.verdict for claim in claims)
    parts = ", ".join(f"{number} {verdict}" for verdict, number in counted.most_common())
    return f"{len(claims)} claims: {parts}."


def _as_table(result: Made) -> list[str]:
    frame = result.data.astype(object).where(result.data.notna(), "–")
    lines = ["| " + " | ".join(map(str, frame.columns)) + " |", "|---" * len(frame.columns) + "|"]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in frame.to_numpy().tolist()]
    return lines
