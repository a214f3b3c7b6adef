"""Compares the speed of this tree with that of another commit, side by side.

    python -m benchmarks.against main~5
    python -m benchmarks.against v0.1 --rounds 31

Both run at the same time, each in a process of its own, and take turns of a fraction of a second in
the order A B B A, so that what else the machine does falls on both alike. What counts is the ratio
of the CPU times of neighbouring turns: its median with a 95 % interval from bootstrap samples.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, machine_line
from benchmarks.spread import number

ROOT = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).with_name("paired_worker.py")
Rates = dict[str, tuple[float, float]]


class Ratio(NamedTuple):
    """How many times as fast the second tree is.

    Attributes:
        median: Median over the rounds.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, before: Sequence[float], after: Sequence[float]) -> Ratio:
        """Compares the rates of neighbouring turns."""
        ratios = np.asarray(after) / np.asarray(before)
        rng = np.random.default_rng(0)
        drawn = np.median(rng.choice(ratios, (2000, len(ratios))), axis=1)
        low, high = np.quantile(drawn, (0.025, 0.975))
        return cls(float(np.median(ratios)), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} … {self.high:.2f})"


class Worker:
    """A process that measures one tree.

    Args:
        tree: Folder of the tree.
    """

    def __init__(self, tree: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), str(tree)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tree,
            env={**os.environ, "PYTHONPATH": ""},
        )  # fmt: skip
        self._read()

    def measure(self) -> Rates:
        """Takes a turn; returns steps per CPU second and per second by name."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        rates: Rates = json.loads(self._read())
        return rates

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a worker ended before its time; see above")
        return line


def compare(before: Path, after: Path, rounds: int) -> tuple[list[Rates], list[Rates]]:
    """Lets both trees take turns; returns each one's rates by round."""
    workers = [Worker(before), Worker(after)]
    seen: tuple[list[Rates], list[Rates]] = ([], [])
    for turn in range(rounds):
        for place in (0, 1) if turn % 2 else (1, 0):
            seen[place].append(workers[place].measure())
    for worker in workers:
        worker.close()
    return seen


def check_out(commit: str, folder: Path) -> None:
    """Writes the files of a commit into a folder."""
    done = subprocess.run(
        ["git", "archive", commit], cwd=ROOT, capture_output=True, check=False
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr.decode().strip())
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def main() -> None:
    """Compares and prints a table; writes JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", help="what this tree is compared with")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, default=Path("outputs/benchmarks/against.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        check_out(arguments.commit, Path(folder))
        before, after = compare(Path(folder), ROOT, arguments.rounds)
    table = Table(
        "", f"{arguments.commit}: steps per CPU s", "this tree", "ratio, CPU time", "ratio, time",
        title=machine_line(),
    )  # fmt: skip
    found = {}
    for name in before[0]:
        cpu, wall = (
            Ratio.of([row[name][kind] for row in before], [row[name][kind] for row in after])
            for kind in (0, 1)
        )
        medians = [float(np.median([row[name][0] for row in rows])) for rows in (before, after)]
        table.add_row(name, *(number(median) for median in medians), str(cpu), str(wall))
        found[name] = {"steps_per_cpu_s": medians, "cpu": cpu._asdict(), "wall": wall._asdict()}
    Console().print(table)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    content = {"commit": arguments.commit, "machine": machine(), "ratios": found}
    arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
