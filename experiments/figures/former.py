"""What the paper's claims came to before the A100-80GB's power was mended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from experiments.figures.claims import Claim

_FILE = Path(__file__).with_name("former.yaml")


class Former(NamedTuple):
    """A claim's result with the former physics.

    Attributes:
        ours: Our value with its interval.
        verdict: Its verdict.
    """

    ours: str
    verdict: str


@cache
def former_results() -> Mapping[tuple[str, str], Former]:
    """Returns the former results by figure and claim, from ``former.yaml``."""
    rows = yaml.safe_load(_FILE.read_text())
    return {(row["figure"], row["claim"]): Former(row["ours"], row["verdict"]) for row in rows}


def former_cell(claim: Claim) -> str:
    """Returns what a claim came to then; bold where the verdict is another one now."""
    then = former_results().get((claim.figure, claim.claim))
    if then is None:
        return "–"
    verdict = then.verdict if then.verdict == claim.verdict else f"**{then.verdict}**"
    return f"{then.ours}, {verdict}"


def what_changed(claims: Sequence[Claim]) -> str:
    """Returns how many verdicts are others than then."""
    known = [
        (claim, then)
        for claim in claims
        if (then := former_results().get((claim.figure, claim.claim))) is not None
    ]
    changed = [claim for claim, then in known if claim.verdict != then.verdict]
    return (
        "The last column has what each claim came to with the former physics: the A100-80GB drew "
        "15 to 29 % too little power, no cap bound in prefill, and replicas were one pool. Of "
        f"{len(known)} claims {len(changed)} have another verdict now."
    )
