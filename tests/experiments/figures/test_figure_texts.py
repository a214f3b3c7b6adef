"""Titles, captions, claims and explanations of figures are data, and the page shows them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from envs.errors import ConfigurationError
from experiments.evaluation.statistics import Interval
from experiments.figures.claims import REPRODUCED
from experiments.figures.text import FOLDER, FigureText, figure_text

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted(file.relative_to(FOLDER).with_suffix("") for file in FOLDER.glob("*/*.yaml"))


def text_of(file: Path) -> FigureText:
    package, name = file.parts
    return figure_text(package, None if name == "text" else name)


def fragments(template: str) -> list[str]:
    """The parts of a template between its values."""
    return [part.strip() for part in re.split(r"{[^}]*}", template) if len(part.strip()) > 3]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_the_reproduction_page_has_the_words_of_the_texts(file):
    page = (ROOT / "docs" / "reproduction.md").read_text()
    if f"{file.parent.name}:" not in page and file.stem == "text":
        pytest.skip("the page was made before this figure: make results ONLY=figures")
    text = text_of(file)
    templates = {"title": text.title, "caption": text.caption}
    for name, claim in text.claims.items():
        parts = {"claim": claim.claim, "scenario": claim.scenario, "reason": claim.reason}
        templates |= {f"{name}.{part}": words for part, words in parts.items()}
        templates[f"{name}.unsaid"] = claim.unsaid
    absent = {
        key: part for key, words in templates.items() for part in fragments(words)
        if part not in page
    }  # fmt: skip
    assert not absent, "make figures writes the page"


def test_a_claim_is_filled_in_and_named_by_its_model():
    text = figure_text("fig04", "fig04")
    values = {"nodes": 3, "layout": "spread", "cap": 400.0, "lengths": "gsm8k", "lowest": -0.3,
              "highest": 0.1, "nearest": "this", "nearest_value": -0.28}  # fmt: skip
    ours = Interval(-0.28, -0.29, -0.27)
    claim = text.evaluated("loss", ours, REPRODUCED, model="qwen15_moe_a27b", **values)
    assert claim.id == "fig04.loss_qwen15_moe_a27b"
    assert claim.claim == "at 3 nodes Qwen1.5-MoE has -30% tokens/J"
    assert (claim.paper, claim.ours, claim.low, claim.high) == (-0.3, -0.28, -0.29, -0.27)
    assert "'this' with -28%" in claim.reason


def test_a_template_without_its_value_names_file_key_and_value():
    text = figure_text("fig04", "fig04")
    with pytest.raises(ConfigurationError, match=r"fig04.*claims\.loss\.scenario.*'nodes'"):
        text.evaluated("loss", 0.0, REPRODUCED, model="mixtral_8x7b")
    with pytest.raises(ConfigurationError, match=r"claims\.gain is missing"):
        text.evaluated("gain", 0.0, REPRODUCED)
    with pytest.raises(ConfigurationError, match=r"phrases\.gain is missing"):
        text.phrase("gain")
