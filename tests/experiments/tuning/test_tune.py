"""Tuning: search spaces, studies that go on where they stopped, and the command."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from envs import catalog
from envs.errors import ConfigurationError, PalsError
from experiments.evaluation.choices import with_knobs
from experiments.tuning.space import Parameter, SearchSpace
from experiments.tuning.trials import Trials

pytest.importorskip("optuna")

from experiments import benchmark
from experiments.tune import main

SPACE = SearchSpace(
    controller="pals",
    fixed={"threshold": 0.1},
    parameters={
        "sustain_s": Parameter(low=0.5, high=8.0, log=True),
        "feedback.kp": Parameter(low=0.0, high=4.0),
        "tpot_aware": Parameter(options=[False, True]),
    },
)


def test_dotted_keys_reach_into_the_controller() -> None:
    choice = SPACE.choice({"sustain_s": 1.5, "feedback.kp": 2.5, "tpot_aware": True})
    controller: Any = catalog.build("controller", choice)
    assert (controller.threshold, controller.sustain_s) == (0.1, 1.5)
    assert controller.feedback.kp == 2.5
    assert controller.tpot_aware is True


def test_the_defaults_are_the_first_trial() -> None:
    found = SPACE.defaults(catalog.build("controller", "pals"))
    assert found == {"sustain_s": 2.0, "feedback.kp": 1.0, "tpot_aware": False}
    narrow = SearchSpace(controller="pals", parameters={"sustain_s": Parameter(low=3.0, high=4.0)})
    assert narrow.defaults(catalog.build("controller", "pals")) is None


@pytest.mark.parametrize("name", catalog.names("search"))
def test_every_search_space_is_one_of_its_controller(name: str) -> None:
    """The corners of the space build: no trial can fail for its parameters."""
    space: SearchSpace = catalog.build("search", name)
    for side in (0, -1):
        values = {
            key: own.options[side] if own.options else (own.low, own.high)[side]
            for key, own in space.parameters.items()
        }
        values = {
            key: int(value) if space.parameters[key].whole else value
            for key, value in values.items()
        }
        controller, action = with_knobs(space.choice(values))
        catalog.build("controller", controller)
        assert (action is not None) == (name == "clock_lock")


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"low": 1.0}, {"low": 2.0, "high": 1.0}, {"options": [1]},
        {"low": 0.0, "high": 1.0, "log": True}, {"low": 0.0, "high": 1.0, "options": [1, 2]},
    ],
)  # fmt: skip
def test_a_range_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="search"):
        Parameter(**wrong)


def evaluate(choice: dict[str, Any]) -> tuple[float, float]:
    """More gain, more efficiency and more violations; longer waits are worse at both."""
    wait = choice["sustain_s"]
    gain = choice["feedback"]["kp"]
    return 1.0 + 0.1 * gain - 0.01 * wait, 0.01 * gain + 0.01 * wait


def test_a_study_that_was_stopped_equals_one_that_was_not(tmp_path: Path) -> None:
    whole = Trials(tmp_path / "whole.json", SPACE, "same", 7, 3)
    whole.run(8, None, evaluate)
    Trials(tmp_path / "parts.json", SPACE, "same", 7, 3).run(5, None, evaluate)

    def killed(choice: dict[str, Any]) -> tuple[float, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trials(tmp_path / "parts.json", SPACE, "same", 7, 3).run(6, None, killed)
    resumed = Trials(tmp_path / "parts.json", SPACE, "same", 7, 3)
    assert len(resumed.done) == 5
    resumed.run(8, None, evaluate)
    assert resumed.done == whole.done
    assert len({tuple(trial.values.items()) for trial in whole.done}) == 8


def tried(file: Path, conditions: str = "these") -> Trials:
    trials = Trials(file, SPACE, conditions, 0, 3)
    trials.run(3, None, evaluate)
    return trials


def test_trials_under_other_conditions_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "study.json"
    tried(file)
    with pytest.raises(ConfigurationError, match=r"study\.json.*another search space"):
        Trials(file, SPACE, "those", 0, 3)


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "a?b #c%20"
    tried(folder / "study.json")
    assert [file.name for file in tmp_path.iterdir()] == [folder.name]
    assert len(Trials(folder / "study.json", SPACE, "these", 0, 3).done) == 3


def flipped(content: bytes) -> bytes:
    return content.replace(b"1", b"2", 1)


@pytest.mark.parametrize(
    "changed",
    [
        lambda content: b"", lambda content: content[:-9], lambda content: b"[]", flipped,
        lambda content: content.replace(b'"efficiency": 0', b'"efficiency": 9')
        .replace(b'"efficiency": 1', b'"efficiency": 9'),
        lambda content: b"{}", lambda content: b"[" * 100_000, lambda content: b"SQLite format 3",
    ],
)  # fmt: skip
def test_trials_that_are_not_as_they_were_written_are_refused(
    tmp_path: Path, changed: Callable[[bytes], bytes]
) -> None:
    file = tmp_path / "study.json"
    tried(file)
    file.write_bytes(changed(file.read_bytes()))
    with pytest.raises(ConfigurationError, match=r"study\.json"):
        Trials(file, SPACE, "these", 0, 3)


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to nothing", "device"])
def test_trials_in_what_is_no_file_are_refused(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "study.json"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero" if kind == "device" else tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match=r"study\.json"):
        Trials(file, SPACE, "these", 0, 3)


@pytest.mark.parametrize("outcome", [(math.nan, 0.1), (1.0, math.nan), (math.inf, 0.0)])
def test_a_trial_whose_outcome_is_no_number_ends_the_search(
    tmp_path: Path, outcome: tuple[float, float]
) -> None:
    trials = Trials(tmp_path / "study.json", SPACE, "these", 0, 3)
    with pytest.raises(PalsError, match="violations cannot be counted"):
        trials.run(3, None, lambda choice: outcome)


TINY = (
    "duration=40", "test_duration=40", "seeds=2", "test_seeds=2", "hours=0.07", "startup=1",
    "points=2", "suite.only=[steady_40]", "test_suite.only=[steady_40]", "executor.jobs=1",
)  # fmt: skip


def test_episodes_too_short_for_violations_are_told(command: Any, tmp_path: Path) -> None:
    out = command(main, *TINY, "controllers=[governor]", "duration=10", "test_duration=10")
    assert out.code == 1
    assert "violations cannot be counted" in out.err
    assert "debug=on shows where" not in out.err


def test_the_command_writes_fronts_and_goes_on(command: Any, tmp_path: Path) -> None:
    out = command(main, *TINY, "controllers=[governor]")
    assert out.code == 0, out.err
    folder = tmp_path / "out"
    record = json.loads((folder / "tune.json").read_text())["controllers"]["governor"]
    assert record["trials"] == 3  # of 80 s each
    assert record["hours"] == pytest.approx(240 / 3600)
    choices = yaml.safe_load((folder / "fronts.yaml").read_text())["governor"]
    assert len(choices) == len(record["front"])
    assert catalog.build("controller", choices[0]).low == record["front"][0]["values"]["low"]
    areas = list(record["tuning_hypervolume"].values())
    assert areas == sorted(areas)  # more trials never take anything away
    rates = [point["tuning"]["violations"] for point in record["front"]]
    assert rates == sorted(rates)
    assert "`governor`" in (folder / "tune.md").read_text()
    again = command(main, *TINY, "controllers=[governor]")
    assert again.code == 0, again.err
    kept = json.loads((folder / "tune.json").read_text())["controllers"]["governor"]
    assert kept == record


def test_a_controller_with_knobs_of_its_own_is_tuned_and_its_front_compared(
    command: Any, tmp_path: Path
) -> None:
    out = command(main, *TINY, "controllers=[clock_lock]", "hours=0.02", "test=false")
    assert out.code == 0, out.err
    folder = tmp_path / "out"
    assert not (folder / "test_runs").exists()
    assert "too favourable" in (folder / "tune.md").read_text()
    (choice,) = yaml.safe_load((folder / "fronts.yaml").read_text())["clock_lock"]
    assert choice["action"]["sm_clock"] is True
    compared = command(
        benchmark.main, "controllers=[static]", "subject=static", "restricted=null", "duration=40",
        "seeds=2", "suite.only=[steady_40]", "executor.jobs=1",
        f"fronts=[{folder / 'fronts.yaml'}]", f"hydra.run.dir={tmp_path / 'compared'}",
    )  # fmt: skip
    assert compared.code == 0, compared.err
    runs = json.loads((tmp_path / "compared" / "results.json").read_text())["steady_40"]
    assert set(runs) == {"static", "clock_lock#0"}
    assert runs["clock_lock#0"][0]["energy_gpu_j"] < 0.99 * runs["static"][0]["energy_gpu_j"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("controllers=[]", "controllers: name some of"),
        ("test_suite.seed=500001", "episodes that were tuned on"),
        ("controllers=[static]", "static"),
    ],
)
def test_what_makes_no_sense_is_refused(command: Any, wrong: str, message: str) -> None:
    out = command(main, *TINY, wrong)
    assert out.code == 1
    assert message in out.err
