"""The rule that evaluates claims, and the files that hold them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from experiments.evaluation.statistics import Interval
from experiments.figures.claims import (
    DIRECTION,
    NOT_REPRODUCED,
    REPRODUCED,
    Claim,
    SensitivityCase,
    case_of_draws,
    evaluate,
    interval_of,
    mean_interval,
)
from experiments.figures.export import RECORD, write_claims
from experiments.figures.wording import claim_cells

NARROW = 0.001


def at(value: float, half: float = NARROW) -> Interval:
    return Interval(value, value - half, value + half)


@pytest.mark.parametrize(
    ("paper", "ours", "neutral", "verdict"),
    [
        (1.2, at(1.21), 1.0, REPRODUCED),
        (1.2, at(1.249), 1.0, REPRODUCED),
        (1.2, at(1.26), 1.0, DIRECTION),
        (1.2, at(1.0), 1.0, NOT_REPRODUCED),
        (1.2, at(0.9), 1.0, NOT_REPRODUCED),
        (1.2, at(1.1, 0.2), 1.0, REPRODUCED),  # so wide that it holds the paper's value
        ((1.7, 2.1), at(1.8), 1.0, REPRODUCED),
        ((1.7, 2.1), at(10.0), 1.0, DIRECTION),
        (-0.3, at(-0.25), 0.0, REPRODUCED),
        (-0.3, at(-0.1), 0.0, DIRECTION),
        (-0.3, at(0.1), 0.0, NOT_REPRODUCED),
        ((4.0, 7.0), at(1.5), 1.0, DIRECTION),
        ((4.0, 7.0), at(1.1), 1.0, NOT_REPRODUCED),  # a trace of the effect
        (0.22, at(0.002), 0.0, NOT_REPRODUCED),
    ],
)
def test_a_claim_is_evaluated_by_its_effect(paper, ours, neutral, verdict):
    assert evaluate(paper, ours, neutral) == verdict


def claim(**changes) -> Claim:
    values = {
        "id": "a", "figure": "fig07", "claim": "more", "paper": 1.2, "ours": 1.1, "low": 1.0,
        "high": 1.2, "scenario": "here", "verdict": DIRECTION, "reason": "So it is.",
    }  # fmt: skip
    return Claim(**{**values, **changes})


def test_claims_are_a_list_with_the_agreed_keys(tmp_path):
    cases = (
        SensitivityCase("other lengths", 1.5),
        SensitivityCase("half the load", 0.9, 0.8, 1.0),
    )
    write_claims([claim(sensitivity=cases, unsaid="the load"), claim(id="b")], tmp_path)
    first, second = json.loads((tmp_path / "claims.json").read_text())
    assert list(first) == list(RECORD) == list(second)
    assert "0.9 (half the load) to 1.5 (other lengths)" in first["reason"]
    assert "the load" in first["reason"]
    assert second["reason"] == "So it is."
    table = pd.read_csv(tmp_path / "sensitivity.csv")
    assert table["value"].tolist() == [1.5, 0.9]
    assert table["low"].isna().tolist() == [True, False]


def test_values_are_shown_with_their_units():
    assert claim_cells(claim(unit="x")) == ("1.2 x", "1.1 x (1 x to 1.2 x)")
    fraction = claim(unit="fraction", paper=[0.187, 0.352], ours=0.2, low=None)
    assert claim_cells(fraction) == ("18.7 % to 35.2 %", "20.0 %")
    assert claim_cells(claim(paper="tracked", ours=None)) == ("tracked", "–")


def test_intervals_hold_their_value_and_narrow_with_agreement():
    wide, same = interval_of([1.0, 2.0, 3.0, 4.0]), interval_of([2.0] * 4)
    assert wide.low < wide.value == 2.5 < wide.high
    assert same == (2.0, 2.0, 2.0)
    scores = np.array([[1.0, 10.0], [3.0, 10.0]])
    assert mean_interval(scores).value == 6.0
    spread = case_of_draws("draws", np.arange(101))
    assert (spread.low, spread.value, spread.high) == (5.0, 50.0, 95.0)
