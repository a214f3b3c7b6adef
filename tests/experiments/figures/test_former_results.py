"""What claims came to with the former physics stands beside what they come to now."""

from __future__ import annotations

from pathlib import Path

from experiments.figures.claims import NOT_REPRODUCED, REPRODUCED, VERDICTS, Claim
from experiments.figures.former import former_cell, former_results, what_changed

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reproduction.md"


def claim(verdict: str, words: str = "sizes of the models") -> Claim:
    return Claim("id", "table2", words, "Table 2", 0.029, None, None, "", verdict, "")


def test_every_former_claim_is_one_of_todays() -> None:
    table = PAGE.read_text().split("\n## ")[1]
    for (figure, words), former in former_results().items():
        assert f"| {figure} | {words} |" in table
        assert former.verdict in VERDICTS


def test_another_verdict_is_told() -> None:
    assert former_cell(claim(REPRODUCED)) == "2.9 %, reproduced"
    assert former_cell(claim(NOT_REPRODUCED)) == "2.9 %, **reproduced**"
    assert former_cell(claim(REPRODUCED, "something new")) == "–"
    both = [claim(NOT_REPRODUCED), claim(REPRODUCED, "something new")]
    assert what_changed(both).endswith("Of 1 claims 1 have another verdict now.")
