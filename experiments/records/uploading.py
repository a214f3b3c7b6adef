"""Finished runs, sent to Weights & Biases once each."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from envs.cache import atomic_write_text
from envs.errors import ConfigurationError
from envs.safe_files import read_regular
from envs.strict_json import read_json
from experiments.app.yaml_file import read_yaml
from experiments.records.hashing import file_digest
from experiments.records.provenance import content_hash
from experiments.records.tracking import RunFacts, Wandb
from experiments.runs.recorder import (
    CONFIG_FILE,
    INTERVALS_FILE,
    INTERVALS_HASH,
    PLOT_FILE,
    SUMMARY_FILE,
)

MARK = "uploaded.json"
"""Says in a run's folder what was sent of it."""
_MOST_BYTES = 64 << 20


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
        ConfigurationError: A file of the run is damaged or was edited, or Weights & Biases
            refuses.
    """
    summary = _summary(folder / SUMMARY_FILE)
    content = str(summary["provenance"]["content_hash"])
    if _sent(folder / MARK) == content:
        return False
    config = _configuration(folder / CONFIG_FILE)
    rows = _intervals(folder / INTERVALS_FILE, summary["provenance"].get(INTERVALS_HASH))
    facts = RunFacts(f"{summary['controller']}-{summary['seed']}", folder, config)
    with tracker.follow(facts) as run:
        for number, row in enumerate(rows):
            numbers = {
                name: value
                for name, value in row.items()
                if isinstance(value, float) and math.isfinite(value)
            }
            run.interval(number, {**numbers})
        run.finished(summary, folder / PLOT_FILE)
    atomic_write_text(folder / MARK, json.dumps({"content_hash": content}))
    return True


def _summary(file: Path) -> Any:
    try:
        summary: Any = read_json(read_regular(file, _MOST_BYTES))
        whole = summary["provenance"]["content_hash"] == content_hash(summary)
        _ = summary["controller"], summary["seed"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(file, error) from error
    if not whole:
        raise _edited(file)
    return summary


def _sent(mark: Path) -> str | None:
    """Returns the hash of what was sent; ``None`` where that is not known."""
    if not mark.is_file():
        return None
    try:
        return str(read_json(read_regular(mark, _MOST_BYTES))["content_hash"])
    except (ConfigurationError, ValueError, KeyError, TypeError, RecursionError):
        return None  # it is sent again, to the same run


def _configuration(file: Path) -> Any:
    config: Any = read_yaml(file)
    if not isinstance(config, dict):
        raise ConfigurationError(f"{file}: is damaged (it holds no keys and values)")
    return config


def _intervals(file: Path, digest: str | None) -> list[dict[str, Any]]:
    """Returns the rows of the intervals; the hash is not known of runs of an earlier version."""
    from pyarrow import ArrowException, parquet

    try:
        rows: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    except (OSError, ArrowException) as error:
        raise _damaged(file, error) from error
    if digest is not None and digest != file_digest(file):
        raise _edited(file)
    return rows


def _edited(file: Path) -> ConfigurationError:
    return ConfigurationError(f"{file}: was edited after the run; nothing of it is sent")


def _damaged(file: Path, error: Exception) -> ConfigurationError:
    return ConfigurationError(f"{file}: is damaged ({type(error).__name__}: {error})")
