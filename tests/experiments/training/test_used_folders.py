"""A folder that holds a training or a teaching is begun in by no other, and goes on in itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest

from agents.bundle import read_bundle
from envs import catalog
from experiments import imitate, train
from experiments.app import schemas
from experiments.app.composition import typed
from experiments.imitation.config import ImitateConfig
from experiments.imitation.school import School
from experiments.training.trainer import TrainConfig, Training

Command = Callable[..., Any]
SHARED = (
    "agent.servers=4", "duration=40", "evaluate_seeds=1", "evaluate_duration=40",
    "suite.only=[steady_40]",
)  # fmt: skip
TRAIN = (
    *SHARED, "agent.steps=256", "agent.arguments.n_steps=32", "agent.arguments.batch_size=64",
    "agent.price_every=128", "checkpoint_every=128", "evaluate_every=256",
)  # fmt: skip
IMITATE = (*SHARED, "at_once=2", "rounds=2", "study.updates=5", "study.batch=64")


def composed(name: str, cls: type[Any], overrides: tuple[str, ...]) -> Any:
    schemas.register()
    with hydra.initialize_config_dir(str(catalog.CONF_DIR), version_base="1.3"):
        return typed(cls, hydra.compose(name, list(overrides)))


@pytest.mark.parametrize("main", [train.main, imitate.main])
@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("checkpoint.pt", "go on with it by resume=DIR"),
        ("student.pt", "go on with it by resume=DIR"),
        ("bundle", "run it with controller=agent"),
    ],
)
def test_what_a_folder_holds_is_not_replaced(
    main: Callable[[], None], name: str, advice: str, command: Command, tmp_path: Path
) -> None:
    place = tmp_path / "out" / name
    kept = place / "bundle.json" if name == "bundle" else place
    kept.parent.mkdir(parents=True)
    kept.write_text("of a week's work")
    done = command(main, *SHARED)
    assert done.code == 1
    assert f"hydra.run.dir: {tmp_path / 'out'} holds a" in done.err
    assert advice in done.err
    assert "another folder" in done.err
    assert kept.read_text() == "of a week's work"
    assert not (tmp_path / "out" / "evaluations.json").exists()


def test_a_resumed_training_does_not_replace_another(command: Command, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    out.mkdir()
    (out / "student.pt").write_text("of a week's work")
    School(composed("imitate", ImitateConfig, IMITATE), other)._begin()
    done = command(imitate.main, f"resume={other}")
    assert f"hydra.run.dir: {out} holds a teaching" in done.err


class Ended(Exception):
    """It was ended before its time."""


def test_a_training_goes_on_in_its_folder(command: Command, tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if done >= 192:
            raise Ended

    out = tmp_path / "out"
    with pytest.raises(Ended):
        Training(composed("train", TrainConfig, TRAIN), out).run(stop)
    assert (out / "checkpoint.pt").exists()
    assert not (out / "bundle").exists()
    done = command(train.main, f"resume={out}")
    assert done.code == 0, done.err
    assert read_bundle(out / "bundle").evaluation["steps"] == 256


def test_a_teaching_goes_on_in_its_folder(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    school = School(composed("imitate", ImitateConfig, IMITATE), out)
    school._begin()
    done = command(imitate.main, f"resume={out}")
    assert done.code == 1
    assert f"resume: there is no student.pt in {out}" in done.err
    assert "ended before its first round" in done.err
    school._round(0)
    done = command(imitate.main, f"resume={out}")
    assert done.code == 0, done.err
    assert (out / "bundle" / "bundle.json").exists()
    assert len(json.loads((out / "rounds.json").read_text())) == 2
