"""Workers end with the process that started them, however it ends, and know what it knows now."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from envs import catalog
from experiments.app.executors import Joblib
from experiments.app.surroundings import Surroundings, Told

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import os, sys, time
from experiments.app.executors import Joblib

def wait(folder):
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(600)

list(Joblib(jobs=2).map(wait, [sys.argv[1]] * 2))
"""


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    started = tmp_path / "started"
    started.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(program), str(started)], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    deadline = time.monotonic() + 300.0
    while len(list(started.iterdir())) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workers = [int(file.name) for file in started.iterdir()]
    assert all(map(lives, workers))
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 120.0
    while any(map(lives, workers)):
        assert time.monotonic() < deadline, "workers are left"
        time.sleep(0.1)


def test_one_job_runs_in_this_process() -> None:
    assert list(Joblib(jobs=1).map(lambda item: (item, os.getpid()), [1])) == [(1, os.getpid())]


def test_workers_that_are_used_again_know_what_is_allowed_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(_: int) -> tuple[list[str], bool, str | None]:
        found = importlib.util.find_spec("new_lab") is not None
        allowed = sorted(catalog.allowed_packages())
        return allowed, found, os.environ.get("PALS_DATA")

    workers = Joblib(jobs=2)
    monkeypatch.setenv("PALS_DATA", "/before")
    catalog.allow_package("old_lab")
    assert list(workers.map(seen, range(4))) == [(["old_lab"], False, "/before")] * 4
    (tmp_path / "new_lab.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("PALS_DATA")
    monkeypatch.setenv("PALS_ALLOW_PACKAGES", "new_lab")
    assert list(workers.map(seen, range(4))) == [(["new_lab"], True, None)] * 4


def test_what_is_told_without_places_leaves_those_of_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PALS_DATA", "/ours")
    monkeypatch.setenv("PALS_ALLOW_PACKAGES", "our_lab")
    told = Told(lambda _: sorted(catalog.allowed_packages()), Surroundings.here(places=False))
    monkeypatch.setenv("PALS_DATA", "/theirs")
    monkeypatch.setenv("PALS_ALLOW_PACKAGES", "their_lab")
    monkeypatch.syspath_prepend("/theirs/code")
    path = list(sys.path)
    assert told(None) == ["our_lab"]
    assert os.environ["PALS_DATA"] == "/theirs"
    assert sys.path == path
