"""Runs of an earlier time: whether one is the very run that is wanted now, and why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from envs.errors import ConfigurationError
from envs.safe_files import read_regular
from envs.scenario import Scenario
from envs.strict_json import read_json
from experiments.evaluation.metrics import Summary
from experiments.records.hashing import file_digest
from experiments.records.provenance import content_hash, differences, provenance
from experiments.runs.options import RunOptions, run_record
from experiments.runs.recorder import INTERVALS_FILE, INTERVALS_HASH, SUMMARY_FILE

_MOST_BYTES = 64 << 20


class KeptRun(NamedTuple):
    """What a run's folder holds of an earlier time.

    Attributes:
        summary: The summary of the very run that is wanted; ``None`` if it has to be made.
        reasons: Why a run that is there is not that one; empty where there is none.
    """

    summary: Summary | None
    reasons: tuple[str, ...] = ()


def kept_run(scenario: Scenario, options: RunOptions, directory: Path) -> KeptRun:
    """Returns the run in a folder if it is of this very configuration, input, code and libraries.

    Args:
        scenario: What is controlled.
        options: Who controls it, with which seed.
        directory: The run's folder.
    """
    file = directory / SUMMARY_FILE
    if not file.exists():
        return KeptRun(None)
    try:
        summary: Any = read_json(read_regular(file, _MOST_BYTES))
        whole = summary["provenance"]["content_hash"] == content_hash(summary)
    except ConfigurationError as error:
        return KeptRun(None, (str(error),))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return KeptRun(None, (f"{file} is damaged ({type(error).__name__}: {error})",))
    if not whole:
        return KeptRun(None, (f"{file} was edited",))
    if summary.get("interrupted"):
        return KeptRun(None, ("interrupted",))
    reasons = differences(summary["provenance"], provenance(run_record(scenario, options)))
    intervals = directory / INTERVALS_FILE
    if not intervals.is_file():
        reasons.append(f"{intervals} is missing")
    elif summary["provenance"].get(INTERVALS_HASH) != file_digest(intervals):
        reasons.append(f"{intervals} is damaged or was edited")
    return KeptRun(None, tuple(reasons)) if reasons else KeptRun(summary)
