"""Sends finished runs to Weights & Biases: ``python -m experiments.upload DIR…``; again is safe."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from experiments.app.errors import errors_told
from experiments.app.plain_command import path_argument
from experiments.app.terminal_text import plain
from experiments.records.tracking import Wandb
from experiments.records.uploading import finished_runs, upload


def main(arguments: Sequence[str] | None = None) -> None:
    """Uploads every finished run below the folders that was not uploaded yet."""
    parser = argparse.ArgumentParser(prog="pals upload", description=plain(__doc__))
    parser.add_argument("directories", type=path_argument, nargs="+", help="of runs, or above them")
    parser.add_argument("--project", help="project; by default WANDB_PROJECT or pals-gym")
    parser.add_argument("--entity", help="account or team")
    parser.add_argument("--group", help="runs of one group are shown together")
    given = parser.parse_args(arguments)
    tracker = Wandb(project=given.project, entity=given.entity, group=given.group)
    with errors_told():
        folders = finished_runs(given.directories)
        sent = [folder for folder in folders if upload(folder, tracker)]
    for folder in sent:
        sys.stdout.write(f"uploaded {folder}\n")
    earlier = ", the others were before" if len(sent) < len(folders) else ""
    sys.stdout.write(f"{len(sent)} of {len(folders)} runs uploaded{earlier}\n")


if __name__ == "__main__":
    main()
