"""Whole numbers that no float can hold, which JSON and YAML write freely, are refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.bundle import SHIPPED
from agents.bundle_facts import facts_sha256, parse_facts
from agents.recipe import Recipe
from envs.errors import ConfigurationError
from envs.factory import make_env
from envs.live.cap_helper.protocol import CAP, Refused, parsed
from envs.scenario import Scenario
from experiments.watching.runs import _number

HUGE = 10**400


@pytest.mark.parametrize("number", [HUGE, -HUGE, 10**5000], ids=["huge", "negative", "unprintable"])
@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("duration", lambda n: {"duration_s": n}),
        ("interval", lambda n: {"interval_s": n}),
        ("load", lambda n: {"workload": {"base": "bursty", "load": n}}),
        ("kv_bytes", lambda n: {"model": {"base": "llama31_8b", "kv_bytes": n}}),
        ("layers", lambda n: {"model": {"base": "llama31_8b", "layers": n}}),
        ("memory_gb", lambda n: {"gpu": {"base": "h100_sxm", "memory_gb": n}}),
        ("weight", lambda n: {"reward": {"base": "default", "terms": {"qos": {"weight": n}}}}),
        ("objective", lambda n: {"objective": {"base": "throughput_target", "target": n}}),
    ],
)
def test_a_scenario_names_the_key(key: str, parts: Any, number: int) -> None:
    with pytest.raises(ConfigurationError, match=key):
        make_env(Scenario(**parts(number)))


def test_the_command_line_names_the_key(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments.run", f"hydra.run.dir={tmp_path}"]
    done = subprocess.run(
        [*command, f"workload.load={HUGE}"], capture_output=True, text=True, check=False
    )
    assert "workload.load: int too large to convert to float" in done.stdout + done.stderr
    assert "OverflowError" not in done.stdout + done.stderr


def test_a_bundle_names_the_key() -> None:
    facts = json.loads((next(SHIPPED.glob("*/bundle.json"))).read_text())
    facts["observation"][0]["high"] = HUGE
    facts["sha256"] = facts_sha256(facts)
    with pytest.raises(ConfigurationError, match=r"observation\[0\]\.high"):
        parse_facts(json.dumps(facts).encode())


def test_an_agents_argument_is_named() -> None:
    recipe = Recipe(arguments={"policy": "MlpPolicy", "learning_rate": HUGE})
    with pytest.raises(ConfigurationError, match="learning_rate"):
        recipe.make(env=None, seed=0, device="cpu")  # type: ignore[arg-type]


def test_the_cap_helper_turns_it_away() -> None:
    """An error that is no refusal would end the helper for all its callers."""
    for watts in (HUGE, -HUGE):
        line = json.dumps({"do": CAP, "gpus": ["GPU-1"], "watts": watts, "lease": "a1"})
        with pytest.raises(Refused, match="watts"):
            parsed(line.encode())


def test_what_is_watched_is_left_out() -> None:
    assert _number(HUGE) is None
