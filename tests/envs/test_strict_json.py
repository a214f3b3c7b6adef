"""A key that stands twice in one object is named wherever a file of JSON is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.bundle import SHIPPED, read_bundle
from envs.errors import ConfigurationError, PalsError
from envs.simulator.huggingface import read_config
from envs.strict_json import read_json
from experiments.benchmarking.submission import read_rows
from experiments.calibration.data import json_lines
from experiments.profiling.store import read_profile

TWICE = '{"hidden_size": 1, "inner": {"rows": 1, "rows": 2}}'


def test_other_json_is_as_ever() -> None:
    assert read_json(b'[{"a": {"a": 1}}, {"a": 2.5}, null]') == [{"a": {"a": 1}}, {"a": 2.5}, None]


def test_a_models_file(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(TWICE)
    with pytest.raises(ConfigurationError, match=r"config\.json .*'rows' stands twice"):
        read_config(tmp_path, (), "")


def test_a_profile_and_measured_data(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text(TWICE)
    for read in (read_profile, json_lines.read_json):
        with pytest.raises(PalsError, match=r"profile\.json.*'rows' stands twice"):
            read(file)


def test_a_bundle(tmp_path: Path) -> None:
    file = tmp_path / "bundle.json"
    facts = (SHIPPED / "ppo" / "bundle.json").read_text()
    file.write_text(facts.replace("{", '{"shield": false, ', 1))
    with pytest.raises(ConfigurationError, match=r"bundle\.json.*'shield' stands twice"):
        read_bundle(tmp_path)


def test_a_leaderboard(tmp_path: Path) -> None:
    file = tmp_path / "leaderboard.json"
    file.write_text(f"[{TWICE}]")
    with pytest.raises(ConfigurationError, match=r"leaderboard\.json.*'rows' stands twice"):
        read_rows(file)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_refused_where_numbers_are_finite(word: str) -> None:
    text = f'{{"a": {word}}}'
    assert read_json(text)["a"] != 0
    with pytest.raises(ValueError, match=f"{word} is not a number"):
        read_json(text, finite=True)
