"""Claims of the paper beside our values, and the one rule that evaluates them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from envs.cache import atomic_write_text
from experiments.evaluation.metrics import write_json
from experiments.evaluation.statistics import FloatArray, Interval, bootstrap

REPRODUCED = "reproduced"
DIRECTION = "reproduced in direction"
NOT_REPRODUCED = "not reproduced"
VERDICTS = (REPRODUCED, DIRECTION, NOT_REPRODUCED)
RECORD = (
    "id", "figure", "claim", "paper", "ours", "low", "high", "setting", "verdict", "reason",
)  # fmt: skip
"""Keys of a claim in ``claims.json``."""
TOLERANCE = 0.25
"""Fraction of the paper's effect by which ours may differ and still counts as reproduced."""

NO_EFFECT = 0.05
"""Fraction of the paper's effect below which ours counts as none."""


@dataclass(frozen=True)
class Reading:
    """What a claim's value becomes under another plausible choice.

    Attributes:
        choice: What is chosen differently.
        value: The value then.
        low: Lower end of its interval; ``None`` where there is none.
        high: Upper end of its interval.
    """

    choice: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Claim:
    """One claim of arXiv:2605.21427 and what came of it.

    Attributes:
        id: Short name.
        figure: The figure that it belongs to.
        claim: What the paper says.
        paper: The paper's value, or its range.
        ours: Our value; ``None`` where there is none.
        low: Lower end of its interval.
        high: Upper end of its interval.
        setting: What was run.
        verdict: One of :data:`VERDICTS`.
        reason: Why it came out like this.
        unsaid: What the paper would have had to say to settle it.
        unit: Unit of the values; empty for ratios.
        readings: The value under other plausible choices.
    """

    id: str
    figure: str
    claim: str
    paper: Any
    ours: float | None
    low: float | None
    high: float | None
    setting: str
    verdict: str
    reason: str
    unsaid: str = ""
    unit: str = ""
    readings: tuple[Reading, ...] = field(default=())


def interval_of(values: Any) -> Interval:
    """Returns the interquartile mean of runs with its 95 % bootstrap interval."""
    return bootstrap(np.asarray(values, dtype=np.float64))


def mean_interval(scores: FloatArray) -> Interval:
    """Returns the mean over runs and tasks with its interval; scores of shape (runs, tasks)."""
    return bootstrap(scores, lambda table: np.asarray(table.mean(axis=(-2, -1))))


def spread_of(choice: str, values: Any) -> Reading:
    """Returns the median and the middle 90 % of draws, as a reading."""
    low, middle, high = np.percentile(np.asarray(values, dtype=np.float64), [5, 50, 95])
    return Reading(choice, float(middle), float(low), float(high))


def reading(choice: str, values: Any) -> Reading:
    """Returns runs under another choice, with their interval."""
    return Reading(choice, *interval_of(values))


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


def write_claims(claims: Sequence[Claim], directory: Path) -> None:
    """Writes ``claims.json``, a mapping a claim, and ``readings.csv``, a row a reading."""
    write_json(directory / "claims.json", [record(claim) for claim in claims])
    rows = [
        {"claim": claim.id, "unit": claim.unit, **asdict(item)}
        for claim in claims
        for item in claim.readings
    ]
    columns = ["claim", "unit", "choice", "value", "low", "high"]
    frame = pandas.DataFrame(rows, columns=columns)
    atomic_write_text(directory / "readings.csv", frame.to_csv(index=False, float_format="%.6g"))


def record(claim: Claim) -> dict[str, Any]:
    """Returns a claim with the keys that ``claims.json`` has."""
    reason = claim.reason
    if claim.readings:
        reason += " " + range_text(claim)
    if claim.unsaid:
        reason += f" What would settle it: {claim.unsaid}."
    own = asdict(claim)
    return {**{key: own[key] for key in RECORD}, "reason": reason}


def range_text(claim: Claim) -> str:
    """Returns the range over the readings in words."""
    lowest = min(claim.readings, key=lambda item: item.value)
    highest = max(claim.readings, key=lambda item: item.value)
    ends = (shown(claim, lowest.value), shown(claim, highest.value))
    if len(claim.readings) == 1:
        return f"With another choice ({lowest.choice}) it is {ends[0]}."
    return (
        f"Over {len(claim.readings)} choices the value runs from {ends[0]} "
        f"({lowest.choice}) to {ends[1]} ({highest.choice})."
    )


def shown(claim: Claim, value: float) -> str:
    """Returns a value of a claim with its unit."""
    if claim.unit.startswith("fraction"):
        return f"{100 * value:.1f} %"
    return f"{value:.4g}" + (f" {claim.unit}" if claim.unit else "")


def claim_cells(claim: Claim) -> tuple[str, str]:
    """Returns the paper's value and ours with its interval, for people."""
    paper = claim.paper
    if isinstance(paper, int | float):
        text = shown(claim, float(paper))
    elif isinstance(paper, str):
        text = paper
    else:
        text = " to ".join(shown(claim, float(end)) for end in paper)
    if claim.ours is None:
        return text, "–"
    ours = shown(claim, claim.ours)
    if claim.low is not None and claim.high is not None:
        ours += f" ({shown(claim, claim.low)} to {shown(claim, claim.high)})"
    return text, ours
