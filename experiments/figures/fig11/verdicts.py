"""Evaluates how PALS follows the target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.figures.claims import (
    NOT_REPRODUCED,
    REPRODUCED,
    Claim,
    SensitivityCase,
    interval_of,
)
from experiments.figures.episodes import FinishedRun
from experiments.figures.fig11.data import Tracking
from experiments.figures.text import FigureText

ENOUGH = 0.9
"""Fraction of settled time on target from which the target counts as tracked."""


def tracking_claim(
    text: FigureText, tracking: Tracking, runs: Sequence[FinishedRun], seeds: int
) -> Claim:
    """Evaluates the fraction of settled time in which PALS is on target."""
    tables = [run.intervals() for run in runs if run.controller == "pals"]
    ours = interval_of(np.array([tracking.fraction(table) for table in tables]))
    above = np.array([tracking.fraction(table, above=True) for table in tables])
    not_below = interval_of(above)
    caps, limits = (
        float(np.mean([table[column].nunique() for table in tables]))
        for column in ("requested_power_cap_w", "requested_max_num_seqs")
    )
    return text.evaluated(
        "tracked",
        ours,
        REPRODUCED if ours.low >= ENOUGH else NOT_REPRODUCED,
        sensitivity=[SensitivityCase(text.phrase("not_below"), *not_below)],
        settle=tracking.settle_s,
        tolerance=tracking.tolerance,
        seeds=seeds,
        caps=caps,
        limits=limits,
        not_below=not_below.value,
        enough=ENOUGH,
    )
