"""Figures of the paper: real runs at a small scale, and how claims are judged."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pandas as pd
import pytest

from experiments.figures.claims import DIRECTION, NOT_REPRODUCED, REPRODUCED, Claim
from experiments.figures.fig03 import frontier

CLAIM_KEYS = {
    "id", "figure", "claim", "paper", "ours", "low", "high", "setting", "verdict", "reason",
}  # fmt: skip


def figures() -> None:
    """The application, as ``python -m experiments.figures`` starts it."""
    runpy.run_module("experiments.figures", run_name="__main__")


def claim(paper: tuple[float, float], ours: float, neutral: float | None = None) -> Claim:
    return Claim("id", "1", "what", paper, ours, 0.0, 9.0, "how", "why", neutral)


@pytest.mark.parametrize(
    ("paper", "ours", "neutral", "verdict"),
    [
        ((1.2, 1.2), 1.21, 1.0, REPRODUCED),
        ((1.2, 1.2), 1.24, 1.0, REPRODUCED),
        ((1.2, 1.2), 1.3, 1.0, DIRECTION),
        ((1.2, 1.2), 0.99, 1.0, NOT_REPRODUCED),
        ((1.7, 2.1), 10.0, 1.0, DIRECTION),
        ((0.22, 0.22), 0.001, 0.0, NOT_REPRODUCED),
        ((0.3, 0.3), 0.0, 0.0, NOT_REPRODUCED),
        ((200.0, 200.0), 215.0, None, REPRODUCED),
        ((200.0, 200.0), 150.0, None, NOT_REPRODUCED),
    ],
)
def test_a_claim_is_judged_by_the_size_of_its_effect(
    paper: tuple[float, float], ours: float, neutral: float | None, verdict: str
) -> None:
    assert claim(paper, ours, neutral).verdict == verdict


def test_the_range_does_not_decide() -> None:
    wide = claim((0.3, 0.3), 0.0, 0.0)
    assert wide.low <= 0.3 <= wide.high
    assert wide.verdict == NOT_REPRODUCED


def test_a_frontier_holds_what_no_other_setting_beats() -> None:
    frame = pd.DataFrame(
        {"throughput_tok_s": [1.0, 2.0, 3.0, 2.5], "tokens_per_joule": [9.0, 5.0, 4.0, 6.0]}
    )
    assert sorted(frontier(frame)["throughput_tok_s"]) == [1.0, 2.5, 3.0]


def test_figure_1_writes_data_picture_and_claims(command, tmp_path: Path) -> None:
    models = "figure.models=[olmoe_1b_7b,mixtral_8x7b]"
    done = command(figures, "figure=fig01", models)
    assert done.code == 0, done.err
    out = tmp_path / "out"
    assert {"fig01.csv", "fig01.png", "fig01.pdf", "claims.json"} <= {p.name for p in out.iterdir()}
    claims = json.loads((out / "claims.json").read_text())
    assert all(set(record) == CLAIM_KEYS for record in claims)
    data = pd.read_csv(out / "fig01.csv")
    free = data[(data["model"] == "mixtral_8x7b") & (data["power_cap_w"] == 400.0)]
    default = free[free["workload"] == "gsm8k"].set_index("max_num_seqs")["tokens_per_joule"]
    gain = next(c for c in claims if c["id"] == "fig01b_gain_mixtral_8x7b")
    assert gain["ours"] == pytest.approx(default[64] / default[1])
    assert gain["low"] <= gain["ours"] <= gain["high"]


def test_figure_7_normalises_to_baseline_and_resumes(command, tmp_path: Path) -> None:
    given = ("figure=fig07", "figure.models=[olmoe_1b_7b]", "figure.loads=[0.7]", "duration=60",
             "seeds=2")  # fmt: skip
    page = tmp_path / "page.md"
    done = command(figures, *given, f"page={page}")
    assert done.code == 0, done.err
    data = pd.read_csv(tmp_path / "out" / "fig07.csv")
    static = data[data["controller"] == "static"]
    assert (static["tokens_per_joule_relative"] == 1.0).all()
    assert set(data["seed"]) == {0, 1}
    oracle = data[data["controller"] == "oracle"]["tokens_per_joule_relative"]
    assert (oracle >= 1.0).all()
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "runs").rglob("*.json")}
    assert kept
    assert command(figures, *given).code == 0
    assert kept == {file: file.stat().st_mtime_ns for file in kept}, "made again"
    text = page.read_text()
    assert "images/fig07.png" in text
    assert (tmp_path / "images" / "fig07.png").is_file()


def test_an_unknown_figure_is_named(command) -> None:
    done = command(figures, "figure=fig99")
    assert done.code != 0
    assert "fig99" in done.err
