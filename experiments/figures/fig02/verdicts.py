"""Evaluates which models are bound by communication."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.evaluation.statistics import Interval
from experiments.figures.claims import (
    DIRECTION,
    NOT_REPRODUCED,
    REPRODUCED,
    Claim,
    case_of_draws,
)
from experiments.figures.fig02.data import StepTimes, middle_90_percent
from experiments.figures.operating_point import OperatingPoint
from experiments.figures.text import FigureText

CLEARLY_MORE = 1.5
"""Multiple of Mixtral's fraction from which communication counts as clearly more."""
BOUND = 0.5
"""Fraction of the step from which a model counts as bound by communication."""
_REFERENCE = "mixtral_8x7b"


def bound_claims(
    text: FigureText, times: Mapping[OperatingPoint, StepTimes], tensor: int
) -> list[Claim]:
    """Evaluates each model at the largest tensor-parallel size and its largest batch."""
    claims = []
    for model, paper in text.claims["bound"].papers().items():
        points = [p for p in times if p.model == model and p.tensor == tensor]
        if not points:
            continue
        point = max(points, key=lambda p: p.batch)
        fraction = times[point].communication_fraction
        low, high = middle_90_percent(fraction)
        nominal = float(fraction[0])
        claims.append(
            text.evaluated(
                "bound",
                Interval(nominal, min(low, nominal), high),
                _verdict(paper, nominal, times.get(point._replace(model=_REFERENCE))),
                sensitivity=[case_of_draws(text.phrase("coefficients"), fraction[1:])],
                model=model,
                tensor=point.tensor,
                batch=point.batch,
                lengths=point.lengths,
                clearly_more=CLEARLY_MORE,
            )
        )
    return claims


def _verdict(paper: str, fraction: float, reference: StepTimes | None) -> str:
    """Evaluates by the bound; in direction: clearly more communication than the reference."""
    if (fraction > BOUND) == paper.startswith("communication"):
        return REPRODUCED
    if reference is None:
        return NOT_REPRODUCED
    base = reference.communication_fraction[0]
    return DIRECTION if fraction > CLEARLY_MORE * base else NOT_REPRODUCED
