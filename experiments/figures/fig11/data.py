"""How closely throughput follows a target that moves in steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas

from experiments.evaluation.statistics import FloatArray
from experiments.figures.base import Row
from experiments.figures.episodes import FinishedRun

_COLUMNS = [
    "time_s",
    "target_tok_s",
    "throughput_tok_s",
    "power_w",
    "requested_power_cap_w",
    "requested_max_num_seqs",
]


@dataclass(frozen=True)
class Tracking:
    """When throughput counts as on target.

    Attributes:
        settle_s: Time after a step of the target that is not evaluated, in seconds.
        tolerance: Distance from the target that counts as on target, as a fraction.
    """

    settle_s: float
    tolerance: float

    def fraction(self, table: pandas.DataFrame, *, above: bool = False) -> float:
        """Returns the fraction of settled time on target.

        Args:
            table: Intervals of a run.
            above: Whether throughput above the target counts as on target, too.
        """
        target = table["target_tok_s"].to_numpy()
        time = table["time_s"].to_numpy()
        steps = np.concatenate([[0.0], time[1:][np.diff(target) != 0]])
        since: FloatArray = time - steps[np.searchsorted(steps, time, side="right") - 1]
        error = table["throughput_tok_s"].to_numpy() / target - 1.0
        good = error > -self.tolerance if above else np.abs(error) < self.tolerance
        settled = since > min(self.settle_s, 0.5 * float(time[-1]))
        return float(np.mean(good[settled])) if settled.any() else float(np.mean(good))


def rows(runs: Sequence[FinishedRun]) -> list[Row]:
    """Returns the intervals of all runs."""
    return [
        {
            "controller": run.controller,
            "seed": run.seed,
            **{str(key): value for key, value in row.items()},
        }
        for run in runs
        for row in run.intervals()[_COLUMNS].to_dict("records")
    ]
