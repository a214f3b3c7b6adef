"""The leaderboard: a row from a bundle or a class, the same again, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from envs.errors import ConfigurationError
from experiments.benchmarking.submission import (
    METRICS,
    Frozen,
    leaderboard_page,
    submitted_choice,
    write_row,
)
from experiments.submit import main

SOURCE = '''
"""Half the power, whatever happens."""

from dataclasses import dataclass

from pals_gym import KnobController, Knobs


@dataclass(kw_only=True)
class Halved(KnobController):
    """Holds half of the highest power cap."""

    def decide(self, observation, state):
        highest = self.context.highest
        return Knobs(0.5 * highest.power_cap_w, highest.max_num_seqs), state
'''


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A class of a user's own, and a quick try with it."""
    package = tmp_path / "their_lab"
    package.mkdir()
    (package / "halved.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return [
        "their_lab.halved.Halved", "--table", str(tmp_path), "--runs", str(tmp_path / "runs"),
        "--seeds", "2", "--duration", "60", "--only", "steady_40", "bursty_60",
    ]  # fmt: skip


def test_a_class_gets_its_row_which_can_be_checked(line: list[str], tmp_path: Path) -> None:
    main([*line, "--name", "half"])
    (row,) = json.loads((tmp_path / "leaderboard.json").read_text())
    assert row["name"] == "half"
    efficiency = row["metrics"]["tokens_per_joule_relative"]
    assert efficiency[1] <= efficiency[0] <= efficiency[2]
    assert efficiency[0] > 1.05
    assert row["metrics"]["knob_changes_per_minute"][0] <= 1.0
    assert "half" in (tmp_path / "leaderboard.md").read_text()
    main([*line, "--name", "half", "--check"])
    row["metrics"]["tokens_per_joule_relative"][0] += 0.5
    (tmp_path / "leaderboard.json").write_text(json.dumps([row]))
    with pytest.raises(SystemExit):
        main([*line, "--name", "half", "--check"])


def test_a_class_is_found_in_its_file(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "in_a_file.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    choice, sha = submitted_choice(str(elsewhere / "in_a_file.py") + ":Halved")
    assert choice == {"_target_": "in_a_file.Halved"}
    assert len(sha) > 8
    with pytest.raises(ConfigurationError, match="there is no such file"):
        submitted_choice(str(elsewhere / "gone.py") + ":Halved")


def test_the_suite_is_named_by_what_it_is() -> None:
    assert Frozen(seeds=2).sha == Frozen(seeds=2).sha
    others = {Frozen(seeds=3).sha, Frozen(duration_s=60.0).sha, Frozen(only=("steady_40",)).sha}
    assert len(others | {Frozen(seeds=2).sha}) == 4


def test_a_class_is_ranked_in_the_same_suite_as_a_bundle(
    line: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Frozen(seeds=2).sha
    monkeypatch.setenv("PALS_ALLOW_PACKAGES", "")
    submitted_choice(line[0])  # from here on, their_lab is trusted
    assert Frozen(seeds=2).sha == alone


@pytest.mark.parametrize(
    ("target", "word"),
    [("nowhere", "nowhere"), ("their_lab.halved.Nothing", "Nothing"), ("their_lab.gone.X", "gone")],
)
def test_what_is_no_controller_is_refused(
    line: list[str], target: str, word: str, capsys: Any
) -> None:
    with pytest.raises(SystemExit):
        main([target, *line[1:]])
    assert word in capsys.readouterr().err


def row_of(name: str, suite: str, efficiency: float) -> dict[str, Any]:
    values = {metric.key: [0.1, 0.0, 0.2] for metric in METRICS}
    values["tokens_per_joule_relative"] = [efficiency, efficiency - 0.1, efficiency + 0.1]
    return {
        "name": name, "controller": "0123", "suite": suite, "seeds": 8, "duration_s": 1200.0,
        "version": "0", "metrics": {**values, "slo_violation_rate": None},
    }  # fmt: skip


def test_rows_replace_each_other_and_are_ranked_within_their_suite(tmp_path: Path) -> None:
    for name, suite, efficiency in (
        ("a", "s1", 1.1),
        ("b", "s1", 1.2),
        ("a", "s1", 1.3),
        ("c", "s2", 2.0),
    ):
        write_row(tmp_path, row_of(name, suite, efficiency))
    rows = json.loads((tmp_path / "leaderboard.json").read_text())
    assert [row["name"] for row in rows] == ["a", "b", "c"]
    page = leaderboard_page(rows)
    assert page.index("| a |") < page.index("| b |") < page.index("s2") < page.index("| c |")
    assert "1.300 [1.200, 1.400]" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0"], "submission.seeds: must be >= 1 and <= 100000, got 0"),
        (["--seeds", "1"], "--seeds: intervals need at least 2, got 1"),
        (["--seeds", str(10**12)], "submission.seeds: must be >= 1"),
        (["--duration", "nan"], "submission.duration_s: must be >= 1e-06"),
        (["--duration=-inf"], "submission.duration_s: must be >= 1e-06"),
    ],
)
def test_numbers_without_sense_are_refused_before_anything_runs(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ppo", "--runs", str(tmp_path), "--table", str(tmp_path), *words])
    assert ended.value.code == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_name_does_not_end_a_cell() -> None:
    page = leaderboard_page([{**row_of("../x|y\nz", "s1", 1.1), "seeds": 1}])
    assert "| ../x\\|y z |" in page
    assert "1 seed of" in page


def test_an_agent_that_sets_the_clock_is_given_the_clock(tmp_path: Path) -> None:
    """The suite's own encoding has no such knob."""
    main(
        ["ppo_clock", "--table", str(tmp_path), "--runs", str(tmp_path / "runs"), "--seeds", "2",
         "--duration", "30", "--only", "steady_40"]
    )  # fmt: skip
    (row,) = json.loads((tmp_path / "leaderboard.json").read_text())
    assert row["name"] == "ppo_clock"
    assert row["metrics"]["tokens_per_joule_relative"][0] > 1.1
    assert "a try on steady_40 alone." in (tmp_path / "leaderboard.md").read_text()


def test_a_page_says_what_is_a_try() -> None:
    row = row_of("a", "s1", 1.1)
    for whole in (row, {**row, "only": []}):
        page = leaderboard_page([whole])
        assert "8 seeds of 1200 s in each scenario." in page
        assert "a try" not in page
    tried = leaderboard_page([{**row, "only": ["steady_40", "bursty_60"]}])
    assert "in each scenario; a try on steady_40, bursty_60 alone." in tried
