"""Compiled code is run only as it was written, from a folder that is closed to others."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envs.compiled import code_cache

SCRIPT = """
from envs.compiled import turns
from envs.compiled.jit import entry_point

turns._QUIET_S = 3600.0  # a busy machine's compiling is no line here


@entry_point()
def twice(value: int) -> int:
    return 2 * value


if __name__ == "__main__":
    print(twice(21), sum(twice.stats.cache_hits.values()))
"""


@pytest.fixture(autouse=True)
def no_shared_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PALS_COMPILED", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "twice.py").write_text(SCRIPT)
    return tmp_path


def start(folder: Path, cache: Path | None = None) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PALS_CACHE": str(cache or folder / "cache")}
    return subprocess.Popen(
        [sys.executable, "twice.py"], cwd=folder, env=environment | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(folder: Path, cache: Path | None = None) -> tuple[str, str]:
    """Returns value and cache hits, and what was said on standard error."""
    process = start(folder, cache)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    return out.strip(), err.strip()


def kept(folder: Path) -> Path:
    files = list((folder / "cache" / "compiled").iterdir())
    assert len(files) == 1
    return files[0]


class Bomb:
    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return (open, (self.file, "w"))


def test_folder_and_files_are_the_users_alone(folder: Path) -> None:
    assert run(folder) == ("42 0", "")
    assert run(folder) == ("42 1", "")
    file = kept(folder)
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600


def damages(content: bytes, marker: Path) -> dict[str, bytes]:
    bomb = pickle.dumps(Bomb(marker))
    middle = len(content) // 2
    return {
        "empty": b"",
        "cut": content[:middle],
        "longer": content + b"\0",
        "a pickle": bomb,
        "another payload": content[: -len(bomb)] + bomb,
        "no such thing": b"\x80\x04" * 1000,
    }


def test_damaged_files_are_compiled_again_with_a_line(folder: Path) -> None:
    run(folder)
    file = kept(folder)
    whole = file.read_bytes()
    for what, content in damages(whole, folder / "ran").items():
        file.write_bytes(content)
        out, err = run(folder)
        assert out == "42 0", what
        assert len(err.splitlines()) == 1, what
        assert "damaged" in err, what
        assert run(folder) == ("42 1", ""), what
    assert not (folder / "ran").exists()


def test_a_flipped_bit_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    files = code_cache.CodeFiles("f", "stamp")
    draw = random.Random(0)
    for _ in range(200):
        files.save("key", {"code": bytes(64)})
        (file,) = (tmp_path / "cache" / "compiled").iterdir()
        content = bytearray(file.read_bytes())
        bit = draw.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bytes(content))
        assert files.load("key") is None
        assert not file.exists()


def test_a_key_gets_its_own_code_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path))
    files = code_cache.CodeFiles("f", "stamp")
    files.save("a", 1)
    files.save("b", 2)
    assert (files.load("a"), files.load("b"), files.load("c")) == (1, 2, None)
    code_cache.CodeFiles("f", "another stamp").save("a", 3)
    assert files.load("a") is None, "code of other sources is removed"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_something_else_in_a_files_place_is_not_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path))
    files = code_cache.CodeFiles("f", "stamp")
    files.save("key", 1)
    (file,) = (tmp_path / "compiled").iterdir()
    file.unlink()
    if kind == "link":
        file.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    assert files.load("key") is None


def test_a_folder_that_is_a_link_is_not_used(tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "compiled").symlink_to(tmp_path / "elsewhere")
    assert code_cache.code_folder() is None
    assert "not a folder of your own" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path))
    (tmp_path / "compiled").mkdir()
    os.chown(tmp_path / "compiled", 12345, 12345)
    assert code_cache.code_folder() is None


def test_a_cache_that_anybody_may_change_is_not_used(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path))
    tmp_path.chmod(0o777)
    assert code_cache.code_folder() is None
    tmp_path.chmod(0o1777)
    assert code_cache.code_folder() == tmp_path / "compiled"


def test_what_others_could_have_written_is_thrown_away(
    tmp_path: Path, monkeypatch: Any, caplog: Any
) -> None:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path))
    files = code_cache.CodeFiles("f", "stamp")
    (tmp_path / "compiled").mkdir()
    (tmp_path / "compiled").chmod(0o777)
    payload = pickle.dumps(("key", Bomb(tmp_path / "ran")))
    (file,) = [files._file(tmp_path / "compiled", "key")]
    file.write_bytes(code_cache._MAGIC + hashlib.sha256(payload).digest() + payload)
    assert files.load("key") is None
    assert not (tmp_path / "ran").exists()
    assert (tmp_path / "compiled").stat().st_mode & 0o777 == 0o700
    assert "is thrown away" in caplog.text


def test_processes_with_a_cold_cache_do_not_disturb_each_other(folder: Path) -> None:
    processes = [start(folder) for _ in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=900)
        assert (process.returncode, out.split()[0], err) == (0, "42", "")
    assert run(folder) == ("42 1", "")
    assert not list((folder / "cache" / "compiled").glob(".*")), "no temporary file is left"


@pytest.mark.parametrize("kind", ["a file", "under a file", "full"])
def test_without_a_cache_code_is_compiled_in_memory(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = folder / "blocked"
    if kind == "full":
        blocked = Path("/dev/full/x")  # nothing can be made there
    else:
        blocked.write_text("")
    cache = blocked / "below" if kind == "under a file" else blocked
    out, err = run(folder, cache)
    assert out == "42 0"
    assert len(err.splitlines()) == 1
    assert "not kept" in err


def test_a_full_disk_is_said_once(tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path))

    def full(file: Path, content: bytes, *, private: bool) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(code_cache, "atomic_write_bytes", full)
    files = code_cache.CodeFiles("f", "stamp")
    files.save("a", 1)
    files.save("b", 1)
    assert len([r for r in caplog.records if "No space left" in r.message]) == 1


def test_compiled_code_can_lie_elsewhere(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PALS_COMPILED", str(tmp_path / "own"))
    assert code_cache.code_folder() == tmp_path / "own"
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o700
