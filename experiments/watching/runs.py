"""Runs on the disk as the page reads them: finished ones, and those that are still going on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from envs.errors import ConfigurationError
from envs.safe_files import read_regular
from envs.strict_json import read_json
from experiments.records.journal import JOURNAL_FILE
from experiments.runs.recorder import INTERVALS_FILE, SUMMARY_FILE

COLUMNS = (
    "time_s", "throughput_tok_s", "target_tok_s", "power_w", "power_cap_w", "power_budget_w",
    "running", "waiting", "max_num_seqs", "ttft_p99_s", "tpot_p99_s", "prompt_tokens",
    "output_tokens", "energy_gpu_j", "cost", "requested_power_cap_w", "requested_max_num_seqs",
)  # fmt: skip
"""What is handed to the page of each interval, besides the number of GPUs."""
_METRICS = ("controller", "seed", "tokens_per_joule", "qos_violation_rate", "ttft_p99_s")
_SERVICE_FILES = "intervals-*.jsonl"
_MOST_BYTES = 1 << 30


def find_runs(directory: Path) -> list[Path]:
    """Returns the folders of runs below a folder, sorted.

    Raises:
        ConfigurationError: There is none.
    """
    names = (INTERVALS_FILE, JOURNAL_FILE, _SERVICE_FILES)
    found = {file.parent for name in names for file in directory.rglob(name)}
    if not found:
        raise ConfigurationError(
            f"{directory}: no run in it or below; a run has {INTERVALS_FILE}, or {JOURNAL_FILE} "
            "while it lasts"
        )
    return sorted(found)


def run_table(folder: Path) -> dict[str, Any]:
    """Returns a run's intervals as columns, its metrics, and whether it is finished."""
    rows = list(_rows(folder))
    columns = {name: [_number(row.get(name)) for row in rows] for name in COLUMNS}
    gpus = (
        sum(name.startswith("gpu") and name.endswith("_power_w") for name in rows[0]) if rows else 0
    )
    summary = folder / SUMMARY_FILE
    metrics = _metrics_of(summary) if summary.is_file() else {}
    return {
        "columns": columns,
        "gpus": max(gpus, 1),
        "finished": summary.is_file(),
        "metrics": {name: _shown(metrics.get(name)) for name in _METRICS},
    }


def _metrics_of(summary: Path) -> Mapping[str, Any]:
    """Returns what a summary says.

    Raises:
        ConfigurationError: It is damaged.
    """
    try:
        metrics: Any = read_json(read_regular(summary, _MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{summary}: is damaged ({error})") from error
    if not isinstance(metrics, Mapping):
        raise ConfigurationError(f"{summary}: is damaged (it holds no keys and values)")
    return metrics


def _rows(folder: Path) -> Iterable[Mapping[str, Any]]:
    """Yields the rows of a run; of a service, those of its newest day."""
    finished = folder / INTERVALS_FILE
    if finished.is_file():
        from pyarrow import ArrowException, parquet

        try:
            yield from parquet.read_table(finished).to_pylist()
        except (OSError, ArrowException) as error:
            raise ConfigurationError(f"{finished}: is damaged ({error})") from error
        return
    growing = folder / JOURNAL_FILE
    days = sorted(folder.glob(_SERVICE_FILES))
    for line in read_regular(growing if growing.is_file() else days[-1], _MOST_BYTES).splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return  # the last line is being written
        if isinstance(row, Mapping):
            yield row


def _shown(value: Any) -> Any:
    """Returns a metric or a name; JSON knows neither NaN nor infinity."""
    return value if isinstance(value, str) else _number(value)


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return round(float(value), 6) if known else None
