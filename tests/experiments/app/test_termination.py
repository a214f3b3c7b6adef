"""SIGTERM of a command is told in one line, wherever it comes, and ends the command as before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[3]
BEGIN = """
import ctypes, os, signal, sys, time
from pathlib import Path
from experiments.app.errors import errors_told
from experiments.app.termination import finished_goes_to
"""
NAMED = """
with errors_told():
    finished_goes_to(Path(os.environ["OUT"]))
    signal.raise_signal(signal.SIGTERM)
    print("went on")
"""
CALLED_BY_C = """
with errors_told():
    ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGTERM))()
    print("went on")
"""
IN_A_FORK = """
with errors_told():
    if not os.fork():
        signal.raise_signal(signal.SIGTERM)
    _, status = os.wait()
    assert os.WTERMSIG(status) == signal.SIGTERM
    signal.raise_signal(signal.SIGTERM)
"""


def ended(program: str, out: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + program], env={**os.environ, "OUT": str(out)},
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (NAMED, "; what it had finished is kept in {out} (docs/experiments.md: what is used"),
        (CALLED_BY_C, ""),
        (IN_A_FORK, ""),
    ],
    ids=["named", "called by C", "in a fork"],
)
def test_sigterm_is_told_in_one_line(program: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").touch()
    done = ended(program, tmp_path)
    assert done.returncode == -signal.SIGTERM  # 143 in a shell
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: ended by SIGTERM{said.format(out=tmp_path)}")


def test_what_is_not_there_is_not_said_to_be_kept(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    assert ended(NAMED, tmp_path).stderr == "error: ended by SIGTERM\n"


RUN = """
from baselines.governor import Governor
from experiments import run
decide, decisions = Governor.decide, []
def until_the_end(self, observation, state):
    decisions.append(state)
    if len(decisions) == 30:
        signal.raise_signal(signal.SIGTERM)
    return decide(self, observation, state)
Governor.decide = until_the_end
sys.argv[1:] = ["controller=governor", "duration=60", f"hydra.run.dir={os.environ['OUT']}"]
run.main()
"""


def test_a_simulated_run_keeps_the_intervals_it_came_to(tmp_path: Path) -> None:
    done = ended(RUN, tmp_path)
    assert done.returncode == 143
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"error: ended by SIGTERM; what it had finished is kept in {tmp_path} (")
    assert len(pd.read_parquet(tmp_path / "intervals.parquet")) == 29


def test_who_heeds_sigterm_already_goes_on_doing_so() -> None:
    done = ended(
        """
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
with errors_told():
    signal.raise_signal(signal.SIGTERM)
"""
    )
    assert (done.returncode, done.stderr) == (7, "")


def test_a_command_names_its_folder(tmp_path: Path) -> None:
    (tmp_path / "table.csv").touch()
    program = f"""
from experiments import describe
import experiments.app.application as application
def end(*_):
    signal.raise_signal(signal.SIGTERM)
application.write_hydras_files = end
sys.argv[1:] = ["hydra.run.dir={tmp_path}"]
describe.main()
"""
    done = ended(program)
    assert done.returncode == -signal.SIGTERM
    assert f"ended by SIGTERM; what it had finished is kept in {tmp_path} " in done.stderr
