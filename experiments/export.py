"""Makes a Minari dataset of runs: ``python -m experiments.export DIR --dataset pals/NAME-v0``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from experiments.app.errors import errors_told
from experiments.app.plain_command import path_argument
from experiments.app.terminal_text import plain
from experiments.records.offline_data import export


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the configuration of a finished run again and keeps what an agent would have seen."""
    parser = argparse.ArgumentParser(prog="pals export", description=plain(__doc__))
    parser.add_argument("directory", type=path_argument, help="folder of a run on the simulator")
    parser.add_argument("--dataset", default="pals/export-v0", help="its name: NAMESPACE/NAME-vN")
    parser.add_argument("--episodes", type=int, default=1, help="with seeds that count up")
    given = parser.parse_args(arguments)
    with errors_told():
        dataset = export(given.directory, given.dataset, given.episodes)
    sys.stdout.write(
        f"{given.dataset}: {dataset.total_episodes} episodes, {dataset.total_steps:,} steps; "
        f"minari.load_dataset({given.dataset!r}) reads it\n"
    )


if __name__ == "__main__":
    main()
