"""Finished runs, sent to Weights & Biases once each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

from omegaconf import OmegaConf

from envs.cache import atomic_write_text
from envs.errors import ConfigurationError
from envs.scenario import plain
from experiments.records.tracking import RunFacts, Wandb
from experiments.runs.recorder import CONFIG_FILE, INTERVALS_FILE, PLOT_FILE, SUMMARY_FILE

MARK = "uploaded.json"
"""Says in a run's folder what was sent of it."""


def finished_runs(directories: Iterable[Path]) -> list[Path]:
    """Returns the folders of finished runs below some folders, sorted.

    Raises:
        ConfigurationError: A folder holds none.
    """
    found: list[Path] = []
    for directory in directories:
        runs = [file.parent for file in directory.rglob(SUMMARY_FILE)]
        runs = [folder for folder in runs if (folder / INTERVALS_FILE).is_file()]
        if not runs:
            raise ConfigurationError(f"{directory}: holds no finished run ({SUMMARY_FILE})")
        found += runs
    return sorted(set(found))


def upload(folder: Path, tracker: Wandb) -> bool:
    """Sends a finished run, unless its content was sent before.

    Args:
        folder: Folder of the run.
        tracker: Where it goes.

    Returns:
        Whether it was sent now.

    Raises:
        ConfigurationError: Weights & Biases refuses.
    """
    from pyarrow import parquet

    summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    content = str(summary["provenance"]["content_hash"])
    mark = folder / MARK
    if mark.is_file() and json.loads(mark.read_text(encoding="utf-8"))["content_hash"] == content:
        return False
    config = plain(OmegaConf.load(folder / CONFIG_FILE))
    facts = RunFacts(f"{summary['controller']}-{summary['seed']}", folder, config)
    with tracker.follow(facts) as run:
        for number, row in enumerate(parquet.read_table(folder / INTERVALS_FILE).to_pylist()):
            numbers = {
                name: value
                for name, value in row.items()
                if isinstance(value, float) and math.isfinite(value)
            }
            run.interval(number, {**numbers})
        run.finished(summary, folder / PLOT_FILE)
    atomic_write_text(mark, json.dumps({"content_hash": content}))
    return True
