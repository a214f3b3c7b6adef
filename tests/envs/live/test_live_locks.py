"""Locks and notes lie in a folder that is ours alone."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from live_support import PATIENCE_S

from envs.live import private_folder
from envs.live.devices.cap_notes import CapNote, CapNotes
from envs.live.errors import DeviceBusyError, DevicePermissionError
from envs.live.locks import Locks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "private"


def test_one_holder_at_a_time(folder: Path) -> None:
    first = Locks(["a", "b"])
    with pytest.raises(DeviceBusyError, match=f"pid {os.getpid()}"):
        Locks(["c", "b"])
    Locks(["c"]).close()  # what a failed attempt had taken is free again
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    assert [oct(file.stat().st_mode & 0o777) for file in folder.glob("*.lock")] == ["0o600"] * 2
    first.close()
    Locks(["a", "b"]).close()


def test_locks_do_not_pile_up(folder: Path) -> None:
    held = Locks(["held"])
    for number in range(5):
        Locks([f"vllm-{number}"]).close()
    (folder / "0123456789abcdef.lock").touch()  # of a controller that was killed
    Locks(["another"]).close()
    assert len(list(folder.glob("*.lock"))) == 1
    with pytest.raises(DeviceBusyError):
        Locks(["held"])
    held.close()
    assert list(folder.iterdir()) == []


def test_many_who_take_and_tidy_at_once_never_hold_one_lock_together(folder: Path) -> None:
    inside, most, done = [0], [0], [0]
    counting = threading.Lock()

    def take_turns() -> None:
        turns, end = 0, time.monotonic() + PATIENCE_S
        while turns < 4 and time.monotonic() < end:
            try:
                held = Locks(["one"])
            except DeviceBusyError:
                continue
            turns += 1
            with counting:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.0005)
            with counting:
                inside[0] -= 1
                done[0] += 1
            held.close()

    threads = [threading.Thread(target=take_turns) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert done[0] == 24


def test_a_folder_that_others_may_enter_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    folder.chmod(0o777)
    with pytest.raises(DevicePermissionError, match="nobody else may enter"):
        Locks(["a"])
    with pytest.raises(DevicePermissionError, match="nobody else may enter"):
        CapNotes().write("GPU-1", CapNote(1))


def test_a_folder_that_is_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(DevicePermissionError, match="nobody else may enter"):
        Locks(["a"])


@pytest.mark.parametrize("kind", ["link", "pipe", "second name", "folder"])
def test_a_lock_that_is_no_file_of_ours_is_refused(folder: Path, tmp_path: Path, kind: str) -> None:
    held = Locks(["a"])
    file = next(folder.glob("*.lock"))
    held.close()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    if kind == "link":
        file.symlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.hardlink_to(victim)
    with pytest.raises(DevicePermissionError, match=r"\.lock"):
        Locks(["a"])
    assert victim.read_text() == "precious"


def test_the_holders_name_is_shown_without_commands_to_the_terminal(folder: Path) -> None:
    held = Locks(["a"])
    next(folder.glob("*.lock")).write_bytes(b"pid 1\x1b[2J\x07\xff evil")
    with pytest.raises(DeviceBusyError, match=r"\(pid 1\[2J evil\)"):
        Locks(["a"])
    held.close()


def test_where_the_folder_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PALS_RUN_DIR")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert private_folder.directory().name == "pals-gym-12345"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert private_folder.directory().name.startswith("pals-gym")


def test_notes_of_another_start_of_the_machine_or_damaged_ones_do_not_count(folder: Path) -> None:
    notes = CapNotes()
    assert notes.read("GPU-1") is None
    notes.write("GPU-1", CapNote(400_000, [150_000], boot="another"))
    assert notes.read("GPU-1") is None
    notes.write("GPU-1", CapNote(400_000, [150_000]))
    assert notes.read("GPU-1") == CapNote(400_000, [150_000])
    next(folder.glob("*.cap.json")).write_text("{")
    assert notes.read("GPU-1") is None
    notes.clear("GPU-1")
    assert not list(folder.glob("*.cap.json"))
