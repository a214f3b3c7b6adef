"""Mistakes on the command line end in one message that names key and cause."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.benchmark import main as benchmark
from experiments.compare import main as compare
from experiments.headroom import main as headroom
from experiments.knob_study import main as knob_study
from experiments.run import main as run
from experiments.shift_study import main as shift_study
from experiments.train import main as train
from experiments.tune import main as tune
from experiments.twin_errors import main as twin_errors

QUICK = ("duration=10", "controller=static")


def one_message(done: Any, *words: str) -> None:
    assert done.code == 1, done.out
    assert done.err.count("error:") == 1, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


@pytest.mark.parametrize("group", ["workload", "objective", "reward", "action", "server", "tracker",
                                   "env", "controller", "model", "gpu"])  # fmt: skip
@pytest.mark.parametrize("way", ["{}=null", "~{}"])
def test_a_group_without_a_choice_is_named(
    command: Callable[..., Any], group: str, way: str
) -> None:
    arguments = [text for text in QUICK if not text.startswith(f"{group}=")]
    one_message(command(run, *arguments, way.format(group)), f"{group}: ")


@pytest.mark.parametrize("key", ["debug", "profile", "tracker", "executor"])
def test_a_part_without_content_is_named(command: Callable[..., Any], key: str) -> None:
    arguments = ["duration=10", "controllers=[static]", "seeds=1", f"{key}=null"]
    done = command(compare, *arguments)
    if done.code:
        one_message(done, key)


@pytest.mark.parametrize("group", ["agent", "mixture", "suite"])
def test_a_training_without_a_choice_names_it(command: Callable[..., Any], group: str) -> None:
    one_message(command(train, f"{group}=null"), f"{group}: nothing is chosen")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("agent=5", "agent: a choice is a name, got 5; name one of "),
        ("mixture=true", "mixture: a choice is a name, got true"),
        ("suite=[1,2]", "suite: a choice is a name"),
        ("agent=ppo,5", "agent: a choice is a name"),
        ("tracker=0.5", "tracker: a choice is a name"),
        ("+constraints.more=nonsense", "constraints.more: no choice named 'nonsense' (it takes a"),
        ("constraints.qos.lowest=100", "constraints.qos.lowest: must be <= highest (8.0), got 100"),
        ("device=cuda", "device: is called torch_device here"),
        ("+device=cuda", "device: is called torch_device here"),
        ("torch_device=cuda:77", "torch_device: 'cuda:77' cannot be used"),
    ],
)
def test_what_a_training_cannot_take_is_told(
    command: Callable[..., Any], given: str, said: str
) -> None:
    quick = ("duration=40", "evaluate_duration=40", "suite.only=[steady_40]")
    one_message(command(train, given, *quick), said)


SUITES = {
    "benchmark": benchmark, "headroom": headroom, "knob_study": knob_study,
    "shift_study": shift_study, "tune": tune, "twin_errors": twin_errors,
}  # fmt: skip


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize(
    "override",
    ["model=llama2_7b", "gpu=h100_sxm", "workload.load=0.3", "objective=efficiency",
     "server.max_num_seqs=8", "controller=slack", "tracker=wandb", "++model.layers=3",
     "env.domain_randomization=true"],
)  # fmt: skip
def test_what_a_suite_says_itself_cannot_be_changed_beside_it(
    command: Callable[..., Any], tmp_path: Path, name: str, override: str
) -> None:
    key = override.lstrip("+").partition("=")[0].partition(".")[0]
    one_message(command(SUITES[name], override), f"{key}: has no effect here")
    assert not (tmp_path / "out" / "runs").exists()


def test_a_study_without_a_seed_of_its_own_says_whose_counts(command: Callable[..., Any]) -> None:
    one_message(command(shift_study, "seed=7"), "seed: has no effect here", "suite.seed")


def test_a_folder_that_another_command_writes_into_is_refused(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    descriptor = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    one_message(command(run, *QUICK), "another command writes into", str(tmp_path / "out"))
    os.close(descriptor)
    assert command(run, *QUICK).code == 0


def test_a_folder_that_is_a_file_is_named(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    done = command(run, *QUICK)
    assert done.code == 1
    assert str(tmp_path / "out") in done.err
    assert "Traceback" not in done.err


def test_a_file_of_settings_that_is_no_yaml_is_named(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "site.yaml"
    file.write_text("# @package _global_\nobjective: [broken\n")
    done = command(run, f"--config-dir={tmp_path}", "experiment=site")
    one_message(done, "no YAML", f'"{file}", line 2')
    assert "ParserError" not in done.err


@pytest.mark.parametrize(
    ("main", "given", "said"),
    [
        (benchmark, "suite.scenarios=[]", "suite.scenarios: must be keys and values"),
        (run, "workload.lengths=[]", "workload.lengths: must be keys and values"),
        (run, "action.max_num_seqs={a:1}", "action.max_num_seqs: must be a list (as in action.m"),
        (run, "suite.scenarios=[]", "suite: this command takes no choice of that group"),
        (run, "duration=${now:}", "duration: its reference (${...}) cannot be resolved: missing"),
        (run, "seed=${nonsense:1}", "seed: its reference (${...}) cannot be resolved: Unsupported"),
        (run, "seed=${oc.env:NOT_SET}", "resolved: Environment variable 'NOT_SET' not found; mend"),
        (run, "server.block_size=${a.b}", "server.block_size: its reference (${...}) cannot be"),
        (compare, "duration=${now:}", "duration: its reference (${...}) cannot be resolved"),
        (train, "duration=${now:}", "duration: its reference (${...}) cannot be resolved"),
    ],
)
def test_a_value_that_nothing_can_be_made_of_is_named(
    command: Callable[..., Any], main: Callable[[], None], given: str, said: str
) -> None:
    one_message(command(main, given), said)
