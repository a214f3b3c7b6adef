"""Evaluates how much efficiency is lost over several nodes."""

from __future__ import annotations

from experiments.evaluation.statistics import Interval
from experiments.figures.claims import (
    DIRECTION,
    NOT_REPRODUCED,
    REPRODUCED,
    Claim,
    SensitivityCase,
    case_of_draws,
    case_of_runs,
    evaluate,
    interval_of,
)
from experiments.figures.fig04.data import LAYOUTS, NodeScaling
from experiments.figures.plot_marks import model_label
from experiments.figures.saturation import COUNTS, SCOPES
from experiments.figures.text import FigureText

COMMUNICATING = ("olmoe_1b_7b", "qwen15_moe_a27b")
"""Models that communicate most, according to the paper."""
REFERENCE = "mixtral_8x7b"
"""Model that communicates least."""


def loss_claims(text: FigureText, data: NodeScaling, drawn: NodeScaling) -> list[Claim]:
    """Evaluates the change of efficiency from one node to the most, per model (figure 4).

    Args:
        text: Texts of the figure.
        data: Measured efficiency.
        drawn: The same with coefficients drawn within their uncertainty.
    """
    sweep = data.sweep
    claims = []
    for model, paper in text.claims["loss"].papers().items():
        if model not in sweep.models:
            continue
        ours = interval_of(data.change(model))
        cases = _cases(text, data, drawn, model)
        nearest = min(cases, key=lambda case: abs(case.value - paper))
        claims.append(
            text.evaluated(
                "loss",
                ours,
                evaluate(paper, ours, 0.0),
                sensitivity=cases,
                model=model,
                nodes=sweep.nodes[-1],
                layout=LAYOUTS[sweep.layout],
                cap=sweep.cap_w,
                lengths=sweep.lengths,
                lowest=min(case.value for case in cases),
                highest=max(case.value for case in cases),
                nearest=nearest.choice,
                nearest_value=nearest.value,
            )
        )
    return claims


def all_fall_claim(text: FigureText, data: NodeScaling, drawn: NodeScaling) -> Claim:
    """Evaluates whether all models lose efficiency, the communicating ones most (figure 5).

    Args:
        text: Texts of the figure.
        data: Measured efficiency.
        drawn: The same with coefficients drawn within their uncertainty.
    """
    sweep = data.sweep
    changes = {model: interval_of(data.change(model)) for model in sweep.models}
    least = max(changes, key=lambda model: changes[model].value)
    return text.evaluated(
        "all_fall",
        changes[least],
        _all_fall_verdict(changes),
        sensitivity=[
            SensitivityCase(f"{model_label(m)}: {c.choice}", c.value, c.low, c.high)
            for m in sweep.models
            for c in _cases(text, data, drawn, m)
        ],
        nodes=sweep.nodes[-1],
        layout=LAYOUTS[sweep.layout],
        by_model=", ".join(f"{model_label(m)} {v.value:+.0%}" for m, v in changes.items()),
        least=model_label(least),
    )


def _all_fall_verdict(changes: dict[str, Interval]) -> str:
    """Evaluates both parts of the claim; one of them counts as in direction."""
    all_fall = all(value.high < 0 for value in changes.values())
    reference = changes.get(REFERENCE)
    steeper = reference is not None and all(
        changes[model].value < reference.value for model in COMMUNICATING if model in changes
    )
    if all_fall and steeper:
        return REPRODUCED
    return DIRECTION if all_fall or steeper else NOT_REPRODUCED


def _cases(
    text: FigureText, data: NodeScaling, drawn: NodeScaling, model: str
) -> list[SensitivityCase]:
    """Returns the changes by lengths, layout, energy and tokens; other lengths with all tokens."""
    sweep = data.sweep
    cases = []
    for lengths in [sweep.lengths, *sweep.other_lengths]:
        counts = COUNTS if lengths == sweep.lengths else COUNTS[:1]
        for layout, words in LAYOUTS.items():
            for scope in SCOPES:
                for count in counts:
                    values = data.efficiency(model, layout, lengths, count, scope)[-1]
                    choice = f"{words}; lengths {lengths}, {count} tokens, {scope} energy"
                    cases.append(case_of_runs(choice, values - 1.0))
    return [*cases, case_of_draws(text.phrase("coefficients"), drawn.change(model))]
