"""The command line tells what there is, and what a misspelt word was meant to be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

from envs import catalog
from envs.errors import ConfigurationError
from experiments.__main__ import listing, main
from experiments.app import schemas
from experiments.app.choices_help import command_help, first_comment, with_parts
from experiments.app.command_list import commands
from experiments.run import main as run

ROOT = Path(__file__).resolve().parents[3]


def start(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Runs ``pals`` in this process."""
    monkeypatch.setattr(sys, "argv", ["pals", *arguments])
    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    return (code, *capfd.readouterr())


def test_commands_are_listed_with_what_they_do(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = start(monkeypatch, capfd)
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert set(commands()) <= set(lines)
    assert {"run", "compare", "train", "control", "figures", "measure_gpu"} <= set(commands())
    assert "Runs one controller on one environment" in lines["run"]
    for name, what in commands().items():
        assert 10 < len(what) < 100, f"{name}: {what}"
        assert "``" not in what


@pytest.mark.parametrize("width", [40, 80, 100])
def test_the_list_keeps_to_the_terminal(width: int) -> None:
    usage, *lines = listing(width).splitlines()
    assert all(len(line) <= max(width, 52) for line in lines[:-1])
    assert "pals COMMAND" in usage


def test_the_module_lists_commands_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "Runs one controller on one environment" in done.stdout


def test_a_command_runs_through_the_script(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = start(monkeypatch, capfd, "list_metrics")
    assert code == 0
    assert out.startswith("# Metrics")


def test_a_command_that_hydra_configures_runs_through_the_script(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ("controller=static", "duration=10", f"hydra.run.dir={tmp_path / 'out'}")
    code, _, err = start(monkeypatch, capfd, "run", *arguments)
    assert code == 0, err
    assert (tmp_path / "out" / "summary.json").is_file()


@pytest.mark.parametrize("name", ["card", "export", "report", "submit", "upload", "watch"])
def test_the_help_of_a_command_is_plain_text(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = start(monkeypatch, capfd, name, "--help")
    assert not code
    assert out.startswith(f"usage: pals {name} ")
    assert "``" not in out


def test_a_misspelt_command_gets_the_right_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, err = start(monkeypatch, capfd, "comapre")
    assert code == 1
    assert "did you mean 'compare'?" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("argument", "meant"),
    [
        ("controller=plas", "controller: no choice named 'plas'; did you mean 'pals'?"),
        ("contoller=pals", "contoller: no such key; did you mean 'controller'?"),
        ("sed=3", "sed: no such key; did you mean 'seed'?"),
        ("server.blok_size=3", "server.blok_size: no such key; did you mean 'block_size'?"),
        ("workload/lengths=gsm9k", "did you mean 'gsm8k'?"),
        ("workload/lenghts=gsm8k", "did you mean 'workload/lengths'?"),
        ("reward.qos_definition=refrence", "did you mean 'reference'?"),
    ],
)
def test_a_misspelt_word_gets_the_right_one(
    command: Callable[..., Any], argument: str, meant: str
) -> None:
    done = command(run, "duration=10", argument)
    assert done.code == 1
    assert meant in done.err
    assert done.err.count("error:") == 1


def test_python_gets_the_right_word_too() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'bursty'"):
        catalog.load("workload", "burstyy")
    with pytest.raises(ConfigurationError, match="did you mean 'load'"):
        catalog.load("workload", {"base": "bursty", "lode": 0.5})


def test_nothing_is_proposed_where_nothing_is_alike(command: Callable[..., Any]) -> None:
    done = command(run, "controller=xyzzy")
    assert "no choice named 'xyzzy'" in done.err
    assert "did you mean" not in done.err
    assert "pals_symmetric" in done.err


@pytest.fixture(scope="module")
def help_text() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "run", "--help", "controller=static"],
        cwd=ROOT, capture_output=True, text=True, check=True, env={"COLUMNS": "100"},
    )  # fmt: skip
    return done.stdout


def test_help_shows_every_choice_with_its_comment(help_text: str) -> None:
    lines = help_text.splitlines()
    for group in ("controller", "workload", "workload/lengths", "objective", "device", "budget"):
        assert f"{group}=" in lines
        begin = lines.index(f"{group}=") + 1
        shown = {}
        for line in lines[begin:]:
            if not line:
                break
            if line[3] != " ":
                shown[line[3:].split()[0]] = line
        assert list(shown) == catalog.names(group)
        for name, line in shown.items():
            comment = first_comment(catalog.CONF_DIR / group / f"{name}.yaml")
            assert comment.split()[0] in line
    assert " * static" in help_text
    assert "   pals  " in help_text
    assert "duration: 600.0" in help_text


def test_help_of_a_command_shows_its_own_groups() -> None:
    assert {"agent", "mixture"} <= set(with_parts(["agent", "mixture"]))
    assert "agent" not in with_parts(["controller", "workload"])


def shown_groups(text: str) -> dict[str, list[str]]:
    """Returns the choices that a help shows, by group."""
    choices = text.partition("Choices")[2].partition("Keys, as they are now")[0]
    found: dict[str, list[str]] = {}
    for block in choices.split("\n\n"):
        head, *lines = block.splitlines() or [""]
        if head.endswith("="):
            found[head[:-1]] = [line[3:].split()[0] for line in lines if line[3:4].strip()]
    return found


def test_help_shows_nothing_that_a_command_cannot_take() -> None:
    """Experiments choose controllers and workloads, which a training has none of."""
    schemas.register()
    trains = shown_groups(command_help("train", "Trains.", [], 100))
    assert {"agent", "mixture", "suite"} <= set(trains)
    assert not {"controller", "workload", "server", "experiment"} & set(trains)
    runs = shown_groups(command_help("run", "Runs.", [], 100))
    assert runs["experiment"] == catalog.names("experiment")


def test_every_choice_has_a_first_comment() -> None:
    for file in catalog.CONF_DIR.rglob("*/*.yaml"):
        comment = first_comment(file)
        assert len(comment) >= 4, file
        assert "python -m" not in comment, file


def completions(monkeypatch: pytest.MonkeyPatch, capfd: Any, line: str) -> list[str]:
    GlobalHydra.instance().clear()
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    code, out, err = start(monkeypatch, capfd, "-sc", "query=bash")
    assert code == 0, err
    return out.split()


def test_commands_choices_and_keys_are_completed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert completions(monkeypatch, capfd, "pals comp") == ["compare"]
    assert set(completions(monkeypatch, capfd, "pals ")) == set(commands())
    assert completions(monkeypatch, capfd, "pals run controller=pals_s") == [
        "controller=pals_symmetric"
    ]
    assert "duration=" in completions(monkeypatch, capfd, "pals run dura")


def test_completion_is_installed_for_the_script(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = start(monkeypatch, capfd, "-sc", "install=bash")
    assert code == 0
    assert out.rstrip().endswith("-F hydra_bash_completion pals")
