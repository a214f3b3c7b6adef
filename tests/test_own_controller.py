"""A user's own controller, outside the tree: one Python file, and one YAML file for commands."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

import pals_gym
from experiments.__main__ import main as pals
from experiments.run import main

SOURCE = '''
"""Less power, whatever happens."""

from dataclasses import dataclass

from pals_gym import KnobController, Knobs


@dataclass(kw_only=True)
class Halved(KnobController):
    """Holds a fraction of the highest power cap."""

    fraction: float = 0.5

    def decide(self, observation, state):
        highest = self.context.highest
        return Knobs(self.fraction * highest.power_cap_w, highest.max_num_seqs), state
'''
CHOICE = "defaults:\n  - /schema/my_lab/halved/Halved@_here_\n  - _self_\nfraction: 0.75\n"


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's two files; returns the folder of the YAML."""
    package = tmp_path / "my_lab"
    package.mkdir()
    (package / "halved.py").write_text(SOURCE)
    folder = tmp_path / "conf" / "controller"
    folder.mkdir(parents=True)
    (folder / "halved.yaml").write_text(CHOICE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder.parent


def test_the_console_script_finds_a_package_of_the_folder_that_it_is_started_in(
    conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_lab").rename(tmp_path / "my_other_lab")
    choice = conf / "controller" / "halved.yaml"
    choice.write_text(choice.read_text().replace("my_lab", "my_other_lab"))
    monkeypatch.setattr("sys.path", [path for path in sys.path if path not in ("", str(tmp_path))])
    monkeypatch.chdir(tmp_path)
    arguments = ["run", "hydra.run.dir=out", f"hydra.searchpath=[file://{conf}]"]
    arguments += ["allow_packages=[my_other_lab]", "controller=halved", "duration=10"]
    monkeypatch.setattr("sys.argv", ["pals", *arguments])
    with pytest.raises(SystemExit) as end:
        pals()
    assert not end.value.code, capsys.readouterr().err
    assert (tmp_path / "out" / "summary.json").is_file()


def test_the_same_controller_by_command_and_from_python(
    conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(
        "sys.argv",
        [
            "run", f"hydra.run.dir={out}", f"hydra.searchpath=[file://{conf}]",
            "allow_packages=[my_lab]", "controller=halved", "duration=20", "seed=4",
        ],
    )  # fmt: skip
    main()
    summary = json.loads((out / "summary.json").read_text())

    own = importlib.import_module("my_lab.halved").Halved(fraction=0.75)
    result = pals_gym.evaluate(own, pals_gym.Scenario(duration_s=20.0), seeds=[4])
    (episode,) = result.episodes
    assert result.controller == "Halved"
    assert set(result.intervals["requested_power_cap_w"]) == {300.0}
    for name, value in episode.metrics.to_dict().items():
        assert summary[name] == value, name
