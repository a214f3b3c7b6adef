"""Evaluates the claims of figure 1: the gain of batching, and the most efficient cap."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from experiments.evaluation.statistics import FloatArray, Interval
from experiments.figures.claims import (
    DIRECTION,
    NOT_REPRODUCED,
    REPRODUCED,
    TOLERANCE,
    Claim,
    SensitivityCase,
    case_of_draws,
    case_of_runs,
    evaluate,
    interval_of,
)
from experiments.figures.fig01.data import CAPS, Efficiency
from experiments.figures.plot_marks import model_label
from experiments.figures.saturation import COUNTS, SCOPES
from experiments.figures.text import FigureText

NEAR_HIGHEST = 0.99
"""Fraction of the highest tokens per joule from which a cap counts as equally efficient."""
_GAIN_SLACK = 0.005
"""Difference of gains that counts as none, for the list of choices that agree with the paper."""


def batch_claims(text: FigureText, data: Efficiency, drawn: Efficiency) -> list[Claim]:
    """Evaluates the gains from batch 1 to 64 and from 32 to 64.

    Args:
        text: Texts of the figure.
        data: Measured tokens per joule.
        drawn: The same with coefficients drawn within their uncertainty.
    """
    sweep = data.sweep
    what: dict[str, Any] = {
        "gpu": sweep.gpus[0],
        "tensor": sweep.tensor,
        "lengths": sweep.lengths,
    }
    claims = [_batch_gain(text, data, drawn, what)]
    for model, paper in text.claims["last_doubling"].papers().items():
        if model not in sweep.models:
            continue
        last = interval_of(data.gain(model, 32, 64) - 1.0)
        cases = [case.minus(1.0) for case in _gain_cases(data, model, 32, 64)]
        within = [c for c in cases if abs(c.value - paper) <= TOLERANCE * paper + _GAIN_SLACK]
        choices = "; ".join(case.choice for case in within)
        agreement = text.phrase("agreement" if within else "no_agreement", choices=choices)
        claims.append(
            text.evaluated(
                "last_doubling",
                last,
                evaluate(paper, last, 0.0),
                sensitivity=cases,
                model=model,
                agreement=agreement,
                **what,
            )
        )
    return claims


def _batch_gain(
    text: FigureText, data: Efficiency, drawn: Efficiency, what: dict[str, Any]
) -> Claim:
    models = data.sweep.models
    gains = np.array([data.gain(model, 1, 64) for model in models])
    ours = interval_of(gains.mean(axis=0))
    cases = []
    for model in models:
        cases += _gain_cases(data, model, 1, 64)
        choice = f"{model_label(model)}, {text.phrase('coefficients')}"
        cases.append(case_of_draws(choice, drawn.gain(model, 1, 64)))
    paper = text.claims["batch_gain"].paper
    nearest = min(cases, key=lambda case: abs(case.value - 0.5 * (min(paper) + max(paper))))
    return text.evaluated(
        "batch_gain",
        ours,
        evaluate(paper, ours, 1.0),
        sensitivity=cases,
        by_model=", ".join(
            f"{model_label(m)} {g.mean():.2f}" for m, g in zip(models, gains, strict=True)
        ),
        nearest=nearest.choice,
        nearest_value=nearest.value,
        **what,
    )


def _gain_cases(data: Efficiency, model: str, first: int, last: int) -> list[SensitivityCase]:
    return [
        case_of_runs(
            f"{model_label(model)}, lengths {lengths}, {count} tokens, {scope} energy",
            data.gain(model, first, last, lengths=lengths, count=count, scope=scope),
        )
        for lengths, count, scope in product(data.sweep.all_lengths, COUNTS, SCOPES)
    ]


def peak_claims(text: FigureText, data: Efficiency, drawn: Efficiency) -> list[Claim]:
    """Evaluates at which cap tokens per joule are highest, and whether they decline after it.

    Args:
        text: Texts of the figure.
        data: Measured tokens per joule.
        drawn: The same with coefficients drawn within their uncertainty.
    """
    sweep = data.sweep
    claims = []
    for model, paper in text.claims["peak"].papers().items():
        if model not in sweep.models:
            continue
        caps, values = data.series(sweep.gpus[0], model, CAPS)
        ours = interval_of(data.peaks(model))
        top = values[-1] / values.max(axis=0)
        declines = bool(np.mean(top) < NEAR_HIGHEST)
        claims.append(
            text.evaluated(
                "peak",
                ours,
                _peak_verdict(paper, ours, caps[-1], declines=declines),
                sensitivity=_peak_cases(text, data, drawn, model),
                model=model,
                statement=text.phrase("rises" if paper == caps[-1] else "declines", cap=paper),
                gpu=sweep.gpus[0],
                batch=sweep.batch,
                caps=_listed(caps),
                lengths=sweep.lengths,
                highest=caps[-1],
                top=np.mean(top),
                near=_listed(_near_highest(caps, values)),
            )
        )
    return claims


def _peak_verdict(paper: float, ours: Interval, highest: float, *, declines: bool) -> str:
    """Evaluates a peak: at the paper's cap, and falling or rising after it as the paper says."""
    if paper == highest:
        if declines:
            return NOT_REPRODUCED
        return REPRODUCED if ours.value == paper else DIRECTION
    if ours.low <= paper <= ours.high and declines:
        return REPRODUCED
    return DIRECTION if declines and ours.value < highest else NOT_REPRODUCED


def _near_highest(caps: list[float], values: FloatArray) -> list[float]:
    highest = values.max(axis=0)
    return [
        cap for cap, row in zip(caps, values, strict=True) if np.mean(row / highest) > NEAR_HIGHEST
    ]


def _peak_cases(
    text: FigureText, data: Efficiency, drawn: Efficiency, model: str
) -> list[SensitivityCase]:
    cases = [
        case_of_runs(
            f"lengths {lengths}, {count} tokens, {scope} energy",
            data.peaks(model, lengths=lengths, count=count, scope=scope),
        )
        for lengths, count, scope in product(data.sweep.all_lengths, COUNTS, SCOPES)
    ]
    return [*cases, case_of_draws(text.phrase("coefficients"), drawn.peaks(model))]


def _listed(caps: list[float]) -> str:
    return ", ".join(f"{cap:g}" for cap in caps)
