"""Figures of the paper: real runs at a small scale, and the rule that judges claims."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pandas as pd
import pytest

from experiments import report
from experiments.figures.claims import DIRECTION, NOT_REPRODUCED, RECORD, REPRODUCED, judge
from experiments.statistics import Interval

SMALL = ("figure.steady.seeds=2", "figure.steady.settle_s=5", "figure.steady.measure_s=10")


def figures() -> None:
    """The application, as ``python -m experiments.figures`` starts it."""
    runpy.run_module("experiments.figures", run_name="__main__")


@pytest.mark.parametrize(
    ("paper", "ours", "neutral", "verdict"),
    [
        (1.2, (1.20, 1.19, 1.21), 1.0, REPRODUCED),
        (1.2, (1.24, 1.23, 1.25), 1.0, REPRODUCED),
        (1.2, (1.30, 1.29, 1.31), 1.0, DIRECTION),
        (1.2, (1.01, 0.99, 1.03), 1.0, NOT_REPRODUCED),
        (1.2, (0.90, 0.89, 0.91), 1.0, NOT_REPRODUCED),
        ((1.7, 2.1), (10.0, 9.0, 11.0), 1.0, DIRECTION),
        ((1.7, 2.1), (2.0, 1.9, 2.2), 1.0, REPRODUCED),
        (-0.3, (-0.31, -0.32, -0.30), 0.0, REPRODUCED),
        (-0.3, (-0.02, -0.03, -0.01), 0.0, DIRECTION),
    ],
)
def test_claims_are_judged_by_their_effect(paper, ours, neutral, verdict) -> None:
    assert judge(paper, Interval(*ours), neutral) == verdict


def test_figure_1_writes_data_picture_and_claims(command, tmp_path: Path) -> None:
    small = ("figure.models=[mixtral_8x7b]", "figure.batches=[1,32,64]", "figure.other_lengths=[]")
    done = command(figures, "figure=fig01", *small, *SMALL)
    assert done.code == 0, done.err
    out = tmp_path / "out"
    names = {path.name for path in out.iterdir()}
    assert {"fig01.csv", "fig01.png", "fig01.pdf", "claims.json", "readings.csv"} <= names
    claims = json.loads((out / "claims.json").read_text())
    assert claims
    for claim in claims:
        assert tuple(claim) == RECORD
        assert claim["low"] <= claim["ours"] <= claim["high"]
    assert len(pd.read_csv(out / "fig01.csv")) > 0
    report.main([str(out)])
    text = (out / "report.html").read_text()
    assert "data:image/png;base64," in text
    assert claims[0]["verdict"] in text


def test_a_table_has_the_papers_models(command, tmp_path: Path) -> None:
    assert command(figures, "figure=table2").code == 0
    assert len(pd.read_csv(tmp_path / "out" / "table2.csv")) == 8


def test_an_unknown_figure_is_named(command) -> None:
    done = command(figures, "figure=fig99")
    assert done.code != 0
    assert "fig99" in done.err
