"""A nested choice is replaced from the command line, by a number or by another class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.app.replacement import with_replacements
from experiments.run import main

FIXED = "{_target_:envs.workloads.lengths.Fixed,tokens:32}"


@pytest.mark.parametrize(
    ("given", "spelt"),
    [
        (["a.b=1"], ["a.b=1"]),
        ([f"a.b={FIXED}"], ["a.b=null", f"a.b={FIXED}"]),
        ([f"++a.b={FIXED}"], ["++a.b=null", f"++a.b={FIXED}"]),
        (["a.b={c:1}"], ["a.b={c:1}"]),
        (["a.b='_target_'"], ["a.b='_target_'"]),
        (["a.b={_target_:"], ["a.b={_target_:"]),
        (["-m", "seed=1,2"], ["-m", "seed=1,2"]),
    ],
)
def test_a_key_is_emptied_before_another_class_fills_it(given: list[str], spelt: list[str]) -> None:
    assert with_replacements(given) == spelt


def test_lengths_and_signals_are_replaced(command: Any, tmp_path: Path) -> None:
    done = command(
        main, "controller=static", "duration=5", "workload=closed_loop",
        "workload.lengths.prompt=128", f"workload.lengths.output={FIXED}", "objective.target=0.8",
    )  # fmt: skip
    assert done.code == 0, done.err
    saved = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert saved["workload"]["lengths"]["prompt"] == 128
    assert saved["workload"]["lengths"]["output"]["tokens"] == 32
    assert "mean_tokens" not in saved["workload"]["lengths"]["output"]
    assert saved["objective"]["target"] == 0.8


def test_a_misspelt_key_of_the_new_class_is_named(command: Any) -> None:
    wrong = FIXED.replace("tokens", "tokns")
    done = command(main, "controller=static", "duration=5", f"workload.lengths.output={wrong}")
    assert done.code != 0
    assert "workload.lengths.output" in done.err
    assert "tokns" in done.err
