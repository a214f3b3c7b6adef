"""The card of an agent says what its bundle says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

from agents.bundle import SHIPPED, find_bundle, read_bundle
from envs import catalog
from experiments.app import schemas
from experiments.app.composition import typed
from experiments.card import main
from experiments.imitation.config import ImitateConfig
from experiments.training.card import CARD_FILE, model_card
from experiments.training.resumed import kept_configuration


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


def how_taught(*overrides: str) -> str:
    """Returns how the agent of a teaching's command was taught, by its card."""
    schemas.register()
    with hydra.initialize_config_dir(str(catalog.CONF_DIR), version_base="1.3"):
        config = typed(ImitateConfig, hydra.compose("imitate", list(overrides)))
    return told(json.loads(json.dumps(kept_configuration(config))))


def told(configuration: dict[str, Any]) -> str:
    page = model_card(replace(read_bundle(find_bundle("ppo")), configuration=configuration))
    (line,) = [line for line in page.splitlines() if "taught by planning" in line]
    return line.partition("its servers: ")[2]


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("seed=1234567",),
        ("agent=ppo_clock", "seed=1"),
        ("rounds=3", "duration=250.5", "slo_price=1e-7", "server_step=0"),
    ],
)
def test_the_command_of_a_card_makes_its_agent_again(overrides: tuple[str, ...]) -> None:
    text = how_taught(*overrides)
    assert text.endswith("` makes it again")
    command = text.split("`")[1].split()
    assert command[:3] == ["python", "-m", "experiments.imitate"]
    assert how_taught(*command[3:]) == text
    assert {part.partition("=")[0] for part in command[3:]} == {
        part.partition("=")[0] for part in overrides
    }
    assert ("seed=1234567" in command) == ("seed=1234567" in overrides)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("mixture.prompt_scale=[0.5,2.5]",), "`mixture`"),
        (("cost.late_price=2.5", "study.batch=128", "seed=2"), "`cost`, `study`"),
        (("critic=[32]",), "`critic`"),
        (("agent.arguments.policy_kwargs.net_arch=[8]",), "`agent`"),
    ],
)
def test_what_a_command_does_not_say_is_named(overrides: tuple[str, ...], named: str) -> None:
    text = how_taught(*overrides)
    assert "makes it again" not in text
    assert text.endswith(f"`, with {named} as `bundle.json` has them")
    assert ("seed=2" in text) == ("seed=2" in overrides)


def test_a_card_is_written_within_the_command_that_has_taught_it() -> None:
    """There Hydra runs already, and goes on running."""
    configuration = dict(read_bundle(find_bundle("ppo_clock")).configuration)
    alone = told(configuration)
    assert not GlobalHydra.instance().is_initialized()
    with hydra.initialize_config_dir(str(catalog.CONF_DIR), version_base="1.3"):
        assert told(configuration) == alone
        assert GlobalHydra.instance().is_initialized()
