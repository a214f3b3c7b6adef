"""Paths under ``~``: the home of a user who is not there is named, wherever such a path is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.bundle import find_bundle
from envs.cache import cache_dir
from envs.errors import ConfigurationError
from envs.live.process import Launch
from envs.objectives.csv_series import read_series
from envs.scenario import Scenario
from envs.simulator.model_file import ModelFile
from envs.user_paths import user_path
from experiments.calibration.config import data_folders

NOBODY = "~nobody_here/x"


@pytest.mark.parametrize(
    ("key", "read"),
    [
        ("controller.bundle", find_bundle),
        ("signal.path", lambda path: read_series(path, "t", "v")),
        ("server.launch.python", lambda path: Launch(python=path).interpreter),
        ("model", lambda path: Scenario(model=path)),
        ("model.path", lambda path: ModelFile(path=path)),
        ("data", data_folders),
    ],
)
def test_a_home_that_is_not_there_is_named_with_its_key(
    key: str, read: Callable[[str], Any]
) -> None:
    with pytest.raises(
        ConfigurationError, match=f"^{key}: {NOBODY}: no home .*'nobody_here'.* ./~"
    ):
        read(NOBODY)


@pytest.mark.parametrize("variable", ["PALS_CACHE", "XDG_CACHE_HOME"])
def test_a_variable_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PALS_CACHE", raising=False)
    monkeypatch.setenv(variable, NOBODY)
    with pytest.raises(ConfigurationError, match=f"^{variable}: {NOBODY}"):
        cache_dir()


def test_what_is_called_so_is_meant_where_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "~backup.csv").touch()
    assert user_path("~backup.csv") == Path("~backup.csv")
    assert user_path("~/x") == Path("/home/me/x")
    assert user_path("a/~b") == Path("a/~b")


def test_only_one_place_knows_the_home_folder() -> None:
    root = Path(__file__).parents[2]
    for package in ("envs", "baselines", "agents", "experiments", "pals_gym"):
        for file in (root / package).rglob("*.py"):
            if file.name != "user_paths.py":
                assert "expanduser" not in file.read_text(encoding="utf-8"), file
