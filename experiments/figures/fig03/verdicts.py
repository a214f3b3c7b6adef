"""Evaluates the gains of all knobs over software knobs, and of the tensor-parallel size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from experiments.figures.claims import (
    Claim,
    SensitivityCase,
    case_of_draws,
    case_of_runs,
    evaluate,
    interval_of,
)
from experiments.figures.fig03.data import CAP_AND_BATCH, SOFTWARE, KnobGridResults
from experiments.figures.plot_marks import model_label
from experiments.figures.saturation import COUNTS, SCOPES
from experiments.figures.text import FigureText


def joint_claims(text: FigureText, data: KnobGridResults, models: Sequence[str]) -> list[Claim]:
    """Evaluates the peak efficiency of all knobs over that of software knobs, per model."""
    papers = text.claims["joint"].papers()
    claims = []
    for model in [name for name in models if name in papers]:
        ours = interval_of(data.ratio(data.states, model, SOFTWARE))
        cases = [
            *_length_cases(data, model, SOFTWARE),
            case_of_runs(
                text.phrase("other_cap", cap=data.other_cap_w),
                data.ratio(data.states, model, SOFTWARE, data.other_cap_w),
            ),
            _draws(text, data, model, SOFTWARE),
        ]
        claims.append(
            text.evaluated(
                "joint",
                ours,
                evaluate(papers[model], ours, 1.0),
                sensitivity=cases,
                model=model,
                gpu=data.gpu,
                cap=data.sets.cap_w,
                lengths=data.lengths,
                lowest=min(case.value for case in cases),
                highest=max(case.value for case in cases),
            )
        )
    return claims


def tensor_claim(text: FigureText, data: KnobGridResults, model: str) -> Claim:
    """Evaluates what the choice of the tensor-parallel size adds to cap and batch."""
    paper = text.claims["tensor"].paper
    ours = interval_of(data.ratio(data.states, model, CAP_AND_BATCH) - 1.0)
    cases = [*_length_cases(data, model, CAP_AND_BATCH), _draws(text, data, model, CAP_AND_BATCH)]
    return text.evaluated(
        "tensor",
        ours,
        evaluate(paper, ours, 0.0),
        sensitivity=[case.minus(1.0) for case in cases],
        model_name=model_label(model),
        tensor=data.sets.tensor,
    )


def _length_cases(data: KnobGridResults, model: str, over: str) -> list[SensitivityCase]:
    return [
        case_of_runs(
            f"lengths {lengths}, {count} tokens, {scope} energy",
            data.ratio(states, model, over, count=count, scope=scope),
        )
        for (lengths, states), count, scope in product(data.by_lengths.items(), COUNTS, SCOPES)
    ]


def _draws(text: FigureText, data: KnobGridResults, model: str, over: str) -> SensitivityCase:
    return case_of_draws(text.phrase("coefficients"), data.ratio(data.drawn, model, over))
