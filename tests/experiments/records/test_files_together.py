"""A run's files are replaced together, or the old ones stay; so it is on a full disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envs import cache
from experiments.records.replacement import replaced_together
from experiments.run import main

QUICK = ("duration=10", "controller=static")
FILES = ("data", "plot", "last")


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def full_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """Has the disk be full after some files."""
    real, left = os.fdopen, [writes]

    def opened(descriptor: int, mode: str = "r", *given: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] < 0 and "w" in mode:
            os.close(descriptor)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, mode, *given, **named)

    monkeypatch.setattr(cache.os, "fdopen", opened)


def write(folder: Path, names: tuple[str, ...] = FILES) -> None:
    for name in names:
        cache.atomic_write_text(folder / name, f"new {name}")


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_full_disk_leaves_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    for name in FILES:
        (tmp_path / name).write_text(f"old {name}")
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        full_after(patch, writes)
        with (
            pytest.raises(OSError, match=rf"No space left.*{FILES[writes]}"),
            replaced_together(tmp_path, FILES, write, private=False),
        ):
            pytest.fail("the files are not whole")
    assert contents(tmp_path) == before
    assert {file.name for file in tmp_path.iterdir()} == set(FILES)


def test_the_last_file_comes_when_the_body_says_so(tmp_path: Path) -> None:
    (tmp_path / "last").write_text("old last")
    (tmp_path / "plot").write_text("old plot")
    with replaced_together(
        tmp_path, FILES, lambda folder: write(folder, ("data", "last")), private=True
    ) as put_last:
        assert contents(tmp_path) == {"data": b"new data"}  # none is of the old run
        put_last()
    assert contents(tmp_path) == {"data": b"new data", "last": b"new last"}
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o600


def test_what_a_killed_process_left_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / ".new-left").mkdir()
    (tmp_path / ".new-left" / "data").touch()
    with replaced_together(tmp_path, FILES, write, private=False) as put_last:
        put_last()
    assert {file.name for file in tmp_path.iterdir()} == set(FILES)


def test_a_run_again_onto_a_full_disk_keeps_the_record(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert command(main, *QUICK).code == 0
    before = contents(out)
    with monkeypatch.context() as patch:
        full_after(patch, 0)
        done = command(main, *QUICK, "seed=5")
    assert done.code == 1
    assert "No space left on device" in done.err
    assert str(out) in done.err
    assert contents(out) == before
