"""Other simulators' programs: run to their end, with what they took."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Spent(NamedTuple):
    """What a program took.

    Attributes:
        cpu_s: Processor time, its own children included.
        wall_s: Time from its start to its end.
    """

    cpu_s: float
    wall_s: float


def spent(
    name: str,
    command: Sequence[str | Path],
    folder: Path,
    variables: Mapping[str, str] | None = None,
) -> Spent:
    """Runs a program to its end and returns what it took.

    Args:
        name: What it is called where it fails.
        command: Program and arguments.
        folder: Where it is run.
        variables: Environment variables that it is given besides those of this process.

    Raises:
        SystemExit: It did not end with 0.
    """
    before, start_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=os.environ | (variables or {}),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    wall_s, after = time.perf_counter() - start_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{name} ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(cpu_s, wall_s)


def last_line(text: str) -> str:
    """Returns the line of a program's errors that says what was wrong."""
    return text.strip().rpartition("\n")[2].strip()
