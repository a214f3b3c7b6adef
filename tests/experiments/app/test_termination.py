"""SIGTERM of a command is told in one line, wherever it comes, and ends the command as before."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

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
    finished_goes_to(Path("/data/out"))
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


def ended(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + program],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (NAMED, "; what it had finished is kept in /data/out (docs/experiments.md: what is used"),
        (CALLED_BY_C, ""),
        (IN_A_FORK, ""),
    ],
    ids=["named", "called by C", "in a fork"],
)
def test_sigterm_is_told_in_one_line(program: str, said: str) -> None:
    done = ended(program)
    assert done.returncode == -signal.SIGTERM  # 143 in a shell
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: ended by SIGTERM{said}")


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
