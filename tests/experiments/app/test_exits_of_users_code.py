"""Code of a user's own that ends the program: told as an error, wherever it runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import compare, run, submit

SMALL = ["model=olmoe_1b_7b", "workload=poisson_gsm8k", "duration=10"]
SOURCE = '''
"""Ends the program, or is interrupted, when it is asked."""

import sys
from dataclasses import dataclass

from pals_gym import KnobController


@dataclass(kw_only=True)
class Ending(KnobController):
    """Ends."""

    at: str = "decide"
    code: int | None = 0

    def prepare(self, preparation):
        if self.at == "prepare":
            sys.exit(self.code)

    def decide(self, observation, state):
        if self.at == "interrupt":
            raise KeyboardInterrupt
        sys.exit(self.code)
'''


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a user's own configuration and package, which is allowed."""
    folder = tmp_path / "lab"
    (folder / "ending_lab").mkdir(parents=True)
    (folder / "ending_lab" / "ending.py").write_text(SOURCE)
    (folder / "controller").mkdir()
    (folder / "controller" / "ending.yaml").write_text("_target_: ending_lab.ending.Ending\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("PALS_ALLOW_PACKAGES", "ending_lab")
    monkeypatch.syspath_prepend(str(folder))
    for name in [name for name in sys.modules if name.startswith("ending_lab")]:
        monkeypatch.delitem(sys.modules, name)
    return folder


def told(error: str, lab: Path) -> bool:
    return "asked to end the program (sys.exit(" in error and str(lab / "ending_lab") in error


@pytest.mark.parametrize("at", ["decide", "prepare"])
def test_a_run_whose_controller_exits_fails(
    command: Callable[..., Any], lab: Path, at: str
) -> None:
    path = f"hydra.searchpath=[file://{lab}]"
    outcome = command(run.main, *SMALL, path, "controller=ending", f"+controller.at={at}")
    assert outcome.code == 1
    assert told(outcome.err, lab)


def test_an_interruption_stays_one(command: Callable[..., Any], lab: Path) -> None:
    path = f"hydra.searchpath=[file://{lab}]"
    outcome = command(run.main, *SMALL, path, "controller=ending", "+controller.at=interrupt")
    assert outcome.code == 130
    assert "interrupted" in outcome.err


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_comparison_tells_whose_run_exited_and_keeps_the_others(
    command: Callable[..., Any], lab: Path, tmp_path: Path, jobs: int
) -> None:
    outcome = command(
        compare.main, *SMALL, f"hydra.searchpath=[file://{lab}]", "controllers=[static,ending]",
        "seeds=[0,1]", f"executor.jobs={jobs}",
    )  # fmt: skip
    assert outcome.code == 1
    assert "2 of 4 runs failed (the others are kept)" in outcome.err
    assert told(outcome.err, lab)
    kept = [json.loads(file.read_text()) for file in (tmp_path / "out").rglob("summary.json")]
    assert [summary["controller"] for summary in kept] == ["static", "static"]


@pytest.mark.parametrize("full", [True, False])
def test_a_submission_that_exits_gets_no_row(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("HYDRA_FULL_ERROR", str(int(full)))
    line = [
        "ending_lab.ending.Ending", "--table", str(tmp_path), "--runs", str(tmp_path / "runs"),
        "--seeds", "2", "--duration", "60", "--only", "steady_40",
    ]  # fmt: skip
    with pytest.raises(RuntimeError if full else SystemExit) as ended:
        submit.main(line)
    if not full:
        assert ended.value.code == 1  # type: ignore[union-attr]  # of SystemExit
    assert told(str(ended.value) if full else capsys.readouterr().err, lab)
    assert not (tmp_path / "leaderboard.json").exists()
