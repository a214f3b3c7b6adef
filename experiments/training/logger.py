"""What a training logs: Stable-Baselines3's logger into a CSV file and a tracker."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import CSVOutputFormat, KVWriter, Logger
from typing_extensions import override

from experiments.records.tracking import TrackedRun

PROGRESS_FILE = "progress.csv"


class TrackerFormat(KVWriter):
    """Hands what is logged to a tracker.

    Args:
        tracked: The training in the tracker.
    """

    def __init__(self, tracked: TrackedRun) -> None:
        self._tracked = tracked

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Takes the values logged since the last call; what is no finite number is left out."""
        self._tracked.interval(
            step,
            {
                key: float(value)
                for key, value in key_values.items()
                if not isinstance(value, str) and math.isfinite(float(value))
            },
        )

    @override
    def close(self) -> None:
        """Does nothing: the caller that opened the tracker closes it."""


def training_logger(directory: Path, tracked: TrackedRun) -> Logger:
    """Returns a logger that writes ``progress.csv`` and tells a tracker."""
    formats: list[KVWriter] = [CSVOutputFormat(str(directory / PROGRESS_FILE))]
    return Logger(str(directory), [*formats, TrackerFormat(tracked)])
