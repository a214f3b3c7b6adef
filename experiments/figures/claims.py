"""Claims of the paper beside our values, and the rule that evaluates them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.evaluation.statistics import FloatArray, Interval, bootstrap

REPRODUCED = "reproduced"
DIRECTION = "reproduced in direction"
NOT_REPRODUCED = "not reproduced"
VERDICTS = (REPRODUCED, DIRECTION, NOT_REPRODUCED)
TOLERANCE = 0.25
"""Fraction of the paper's effect by which ours may differ and still counts as reproduced."""

NO_EFFECT = 0.05
"""Fraction of the paper's effect below which ours counts as none."""


@dataclass(frozen=True)
class SensitivityCase:
    """The value of a claim under another plausible choice.

    Attributes:
        choice: What is chosen differently.
        value: The value under that choice.
        low: Lower end of its interval; ``None`` where there is none.
        high: Upper end of its interval.
    """

    choice: str
    value: float
    low: float | None = None
    high: float | None = None

    def minus(self, neutral: float) -> SensitivityCase:
        """Returns the case with a number subtracted from value and interval."""
        low, high = (self.low or 0.0) - neutral, (self.high or 0.0) - neutral
        return SensitivityCase(self.choice, self.value - neutral, low, high)


@dataclass(frozen=True)
class Claim:
    """A claim of arXiv:2605.21427 and its verdict.

    Attributes:
        id: Short name.
        figure: The figure that it belongs to.
        claim: What the paper says.
        paper: The paper's value, or its range.
        ours: Our value; ``None`` where there is none.
        low: Lower end of its interval.
        high: Upper end of its interval.
        scenario: What was run.
        verdict: One of :data:`VERDICTS`.
        reason: Explanation of the verdict.
        unsaid: What the paper would have to give to settle it.
        unit: Unit of the values; empty for ratios.
        sensitivity: The value under other plausible choices.
    """

    id: str
    figure: str
    claim: str
    paper: Any
    ours: float | None
    low: float | None
    high: float | None
    scenario: str
    verdict: str
    reason: str
    unsaid: str = ""
    unit: str = ""
    sensitivity: tuple[SensitivityCase, ...] = field(default=())


def interval_of(values: Any) -> Interval:
    """Returns the interquartile mean of runs with its 95 % bootstrap interval."""
    return bootstrap(np.asarray(values, dtype=np.float64))


def mean_interval(scores: FloatArray) -> Interval:
    """Returns the mean over runs and tasks with its interval; scores of shape (runs, tasks)."""
    return bootstrap(scores, lambda table: np.asarray(table.mean(axis=(-2, -1))))


def case_of_draws(choice: str, values: Any) -> SensitivityCase:
    """Returns the median of draws of the coefficients, with their middle 90 % as interval."""
    low, middle, high = np.percentile(np.asarray(values, dtype=np.float64), [5, 50, 95])
    return SensitivityCase(choice, float(middle), float(low), float(high))


def case_of_runs(choice: str, values: Any) -> SensitivityCase:
    """Returns the interquartile mean of runs under another choice, with its interval."""
    return SensitivityCase(choice, *interval_of(values))


def evaluate(paper: float | Sequence[float], ours: Interval, neutral: float) -> str:
    """Evaluates a number by its effect: its distance from the value that would mean nothing.

    *Reproduced*: our interval meets the paper's value or range, widened by a quarter of the
    paper's effect (:data:`TOLERANCE`). *In direction*: our whole interval lies on the paper's
    side of ``neutral``, and our effect is no less than :data:`NO_EFFECT` of the paper's.
    Otherwise *not reproduced*.

    Args:
        paper: The paper's value, or its lower and upper end.
        ours: Our value and interval.
        neutral: Value that means no effect: 1 of a ratio, 0 of a gain.
    """
    low, high = (paper, paper) if isinstance(paper, int | float) else (min(paper), max(paper))
    slack = TOLERANCE * min(abs(low - neutral), abs(high - neutral))
    if ours.low <= high + slack and ours.high >= low - slack:
        return REPRODUCED
    effect = 0.5 * (low + high) - neutral
    same_side = ours.low > neutral if effect > 0 else ours.high < neutral
    matters = abs(ours.value - neutral) >= NO_EFFECT * abs(effect)
    return DIRECTION if same_side and matters else NOT_REPRODUCED
