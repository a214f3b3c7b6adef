"""Evaluates a controller on the frozen suite: ``python -m experiments.submit DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.app.errors import errors_told
from experiments.app.plain_command import path_argument
from experiments.app.terminal import Progress
from experiments.app.terminal_text import plain
from experiments.benchmarking.submission import (
    PAGE,
    TABLE,
    Frozen,
    confirm,
    evaluate_submission,
    read_rows,
    write_row,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the controller's row into the leaderboard, or checks the one that is there."""
    frozen = Frozen()
    parser = argparse.ArgumentParser(prog="pals submit", description=plain(__doc__))
    parser.add_argument(
        "controller",
        help="bundle or folder of a training; or a controller's class, as an import path or "
        "FILE.py:CLASS, whose package or file is then trusted",
    )
    parser.add_argument("--name", help="name on the leaderboard; by default the folder or class")
    parser.add_argument(
        "--table", type=path_argument, default=Path("docs"), help="its folder (docs)"
    )
    parser.add_argument(
        "--runs", type=path_argument, default=Path("outputs/submit"), help="kept runs"
    )
    parser.add_argument("--check", action="store_true", help="compare with the row that is there")
    parser.add_argument("--seeds", type=int, default=frozen.seeds, help="for a quick try")
    parser.add_argument("--duration", type=float, default=frozen.duration_s, help="likewise, in s")
    parser.add_argument("--only", nargs="*", default=[], help="scenarios, likewise")
    given = parser.parse_args(arguments)
    name = given.name or Path(given.controller).name.rpartition(":")[2]
    with errors_told():
        kept = read_rows(given.table / TABLE)  # a damaged one is said now, not after hours
        chosen = Frozen(seeds=given.seeds, duration_s=given.duration, only=tuple(given.only))
        with Progress() as progress:
            row = evaluate_submission(
                given.controller, name, chosen, given.runs,
                lambda done, total: progress.update("scenarios", done, total),
            )  # fmt: skip
        if given.check:
            confirm(row, kept)
            sys.stdout.write(f"{name}: as the leaderboard says\n")
            return
        write_row(given.table, row)
    sys.stdout.write(f"{name}: written to {given.table / TABLE} and {given.table / PAGE}\n")


if __name__ == "__main__":
    main()
