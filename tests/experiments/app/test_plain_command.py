"""Commands without Hydra: paths under ``~``, damaged files and users' own errors in one message."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import export, report, submit
from experiments.app.errors import errors_told
from experiments.app.plain_command import path_argument
from experiments.benchmarking.submission import METRICS
from experiments.runs.interruption import Terminated


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(main: Callable[[list[str]], None], *arguments: object) -> str:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        err = capsys.readouterr().err
        assert end.value.code == 1, err
        assert err.count("error: ") == 1, err
        return err

    return run


def test_home_is_meant_after_an_equals_sign_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert path_argument("~/page.html") == Path("/home/me/page.html")
    with pytest.raises(argparse.ArgumentTypeError, match="a user 'nobody-at-all'"):
        path_argument("~nobody-at-all/x")


def test_an_error_of_a_users_own_code_is_told_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def decide():\n    return {}['x']\n")
    names: dict[str, Any] = {}
    exec(compile(mine.read_text(), str(mine), "exec"), names)
    with pytest.raises(SystemExit), errors_told():
        names["decide"]()
    expected = f"error: KeyError: 'x' ({mine}, line 2; HYDRA_FULL_ERROR=1 shows where)\n"
    assert capsys.readouterr().err == expected
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(KeyError), errors_told():
        names["decide"]()


@pytest.mark.parametrize(
    ("came", "code", "said"),
    [(Terminated, 143, "ended by SIGTERM"), (KeyboardInterrupt, 130, "interrupted")],
)
def test_what_ended_a_command_is_told(
    came: type[KeyboardInterrupt], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end, errors_told():
        raise came
    assert end.value.code == code
    assert capsys.readouterr().err == f"error: {said}\n"


DAMAGED = (
    b"", b"[]", b"5", b"\xff\xfe{}", b"[" * 10_000, b'{"a": 1, "a": 2}', b"x: !!python/name:os",
    b"seed: 0",
)  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_configuration_of_a_run_is_named(
    tmp_path: Path, told: Callable[..., str], content: bytes
) -> None:
    pytest.importorskip("minari")
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    assert f"error: {file}" in told(export.main, tmp_path)


@pytest.mark.parametrize("content", [b"a,b\n" + b"x" * 200_000, b"\xff\xfe"])
@pytest.mark.parametrize("name", ["comparison.csv", "config.yaml"])
def test_a_report_names_the_file_that_is_damaged(
    tmp_path: Path, told: Callable[..., str], name: str, content: bytes
) -> None:
    if name == "config.yaml" and b"\xff" not in content:
        pytest.skip("any text is shown")
    text = {"seeds": [0], "controllers": {"a": {}}}
    (tmp_path / "comparison.json").write_text(json.dumps(text))
    (tmp_path / name).write_bytes(content)
    assert f"error: {tmp_path / name}: damaged" in told(report.main, tmp_path)


ROW = {"name": "a", "suite": "s", "controller": "c", "seeds": 1, "duration_s": 1.0}


@pytest.mark.parametrize(
    "table",
    [{}, [ROW], [{**ROW, "metrics": {}}], [{**ROW, "metrics": {own.key: [] for own in METRICS}}]],
)
def test_a_damaged_leaderboard_is_said_before_anything_is_run(
    tmp_path: Path, told: Callable[..., str], monkeypatch: pytest.MonkeyPatch, table: Any
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("it was evaluated")

    monkeypatch.setattr(submit, "evaluate_submission", never)
    (tmp_path / "leaderboard.json").write_text(json.dumps(table))
    found = told(submit.main, "ppo", "--table", tmp_path, "--runs", tmp_path)
    assert f"error: {tmp_path / 'leaderboard.json'} is damaged" in found


def test_a_name_that_no_file_can_hold_is_refused_before_anything_is_run(
    tmp_path: Path, told: Callable[..., str]
) -> None:
    found = told(submit.main, "ppo", "--table", tmp_path, "--runs", tmp_path, "--name", "x\udc80")
    assert "--name: 'x\\udc80' has characters that cannot be printed" in found
    assert not list(tmp_path.iterdir())
