"""Processes with a cold cache compile nothing twice, and say what takes time."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from envs.compiled import turns
from envs.compiled.turns import Turn

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys, time
from numba import njit
from envs.compiled.jit import entry_point


@entry_point()
def inner(value: int) -> int:
    return 2 * value


@entry_point()
def outer(value: int) -> int:
    return inner(value) + 1


if __name__ == "__main__":
    found = outer(20)
    hits = sum(outer.stats.cache_hits.values())
    print(found, hits, sum(outer.stats.cache_misses.values()))
"""


def test_of_many_processes_with_a_cold_cache_one_compiles(tmp_path: Path) -> None:
    (tmp_path / "nested.py").write_text(SCRIPT)
    environment = {
        **os.environ, "PALS_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    environment.pop("PALS_COMPILED", None)
    started = [
        subprocess.Popen(
            [sys.executable, "nested.py"], cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]  # fmt: skip
    said = [process.communicate(timeout=900) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert sorted(out.strip() for out, _ in said) == ["41 0 1", "41 1 0", "41 1 0"]
    assert len(list((tmp_path / "cache" / "compiled").iterdir())) == 2


def is_free(folder: Path) -> bool:
    """Whether it is nobody's turn to compile for a folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def test_a_turn_lasts_until_what_was_called_is_compiled_too(tmp_path: Path) -> None:
    first, other = Turn(), Turn()
    first.take(tmp_path)
    first.take(tmp_path)
    first.give()
    assert not is_free(tmp_path)
    began = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "_WAIT_S", 0.3)
        other.take(tmp_path)  # does not wait for ever
    assert time.monotonic() - began >= 0.3
    other.give()
    first.give()
    assert is_free(tmp_path)
    other.take(tmp_path)
    assert not is_free(tmp_path)
    other.give()


def test_what_takes_long_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_QUIET_S", 0.05)
    turns._said.clear()
    turn = Turn()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            turn.take(tmp_path)
            until = time.monotonic() + 60.0
            while not turns._said.is_set() and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(0.2)  # in which it could be said once more
            turn.give()
        turn.take(tmp_path)
        turn.give()
    said = [record.message for record in caplog.records if record.name == turns.__name__]
    assert len(said) == 1
    assert str(tmp_path) in said[0]


def test_without_a_folder_nothing_is_locked() -> None:
    turn = Turn()
    turn.take(None)
    turn.give()
    turn.give()  # one too many does no harm
    turn.take(None)
    turn.give()
