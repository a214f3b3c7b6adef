"""The card of an agent says what its bundle says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.bundle import SHIPPED, find_bundle, read_bundle
from experiments.card import main
from experiments.training.card import CARD_FILE, model_card


def test_numbers_are_those_of_the_facts() -> None:
    row = {"tokens_per_joule_relative": 1.25, "qos_violation_rate": 0.2, "slo_violation_rate": None}
    facts = read_bundle(find_bundle("ppo"))
    evaluation = {
        "steps": 7200, "scenarios": {"calm": row, "good": {**row, "qos_violation_rate": 0.01}},
        "asked": {"0.02": row},
    }  # fmt: skip
    page = model_card(replace(facts, evaluation=evaluation, configuration={"interval": 0.5}))
    assert "7,200 decisions (1 simulated hours)" in page
    assert "| 2 % | 1.25 | 20 |" in page
    failures = page.partition("## Where it fails")[2]
    assert "`calm`" in failures
    assert "`good`" not in failures


def test_what_is_shipped_has_its_card() -> None:
    for facts in sorted(SHIPPED.glob("*/bundle.json")):
        card = facts.with_name(CARD_FILE)
        assert card.read_text(encoding="utf-8") == model_card(read_bundle(facts.parent))


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "bundle.json" in capsys.readouterr().err
