"""Compiled code is kept between processes and thrown away when any of its sources change."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENTRY = """
from envs.compiled.jit import entry_point
from inner import twice


@entry_point()
def apply(value: int) -> int:
    return twice(value)
"""
INNER = """
from envs.compiled.jit import kernel
import constants


@kernel
def twice(value: int) -> int:
    return FACTOR * value + constants.OFFSET


FACTOR = 2
"""
RUN = """
from outer import apply
print(apply(21), sum(apply.stats.cache_hits.values()))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outer.py").write_text(ENTRY)
    (tmp_path / "inner.py").write_text(INNER)
    (tmp_path / "constants.py").write_text("OFFSET = 0\n")
    return tmp_path


def _run(folder: Path) -> tuple[int, int]:
    """Returns the value and whether the compiled code came from the cache."""
    root = Path(__file__).resolve().parents[3]
    environment = {
        **os.environ,
        "PALS_CACHE": str(folder / "cache"),
        "PALS_COMPILED": "",
        "PYTHONPATH": f"{folder}{os.pathsep}{root}",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=folder, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    value, hits = done.stdout.split()
    return int(value), int(hits)


def test_the_second_process_loads_what_the_first_has_compiled(folder: Path) -> None:
    assert _run(folder) == (42, 0)
    assert _run(folder) == (42, 1)


@pytest.mark.parametrize(
    ("file", "old", "new", "value"),
    [
        ("inner.py", "FACTOR *", "1 + FACTOR *", 43),
        ("inner.py", "FACTOR = 2", "FACTOR = 3", 63),
        ("constants.py", "OFFSET = 0", "OFFSET = 8", 50),
    ],
)
def test_a_change_in_another_file_is_noticed(
    folder: Path, file: str, old: str, new: str, value: int
) -> None:
    assert _run(folder) == (42, 0)
    path = folder / file
    path.write_text(path.read_text().replace(old, new))
    assert _run(folder) == (value, 0)
