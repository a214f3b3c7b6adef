"""Evaluates whether the headroom is near zero for many models and grows at low caps for some."""

from __future__ import annotations

from experiments.figures.claims import (
    DIRECTION,
    NOT_REPRODUCED,
    REPRODUCED,
    Claim,
    SensitivityCase,
    interval_of,
)
from experiments.figures.fig08.data import TensorHeadroom
from experiments.figures.plot_marks import model_label
from experiments.figures.saturation import SCOPES
from experiments.figures.text import FigureText

NEAR_ZERO = 0.02
"""Headroom below this counts as near zero."""


def headroom_claim(text: FigureText, data: TensorHeadroom) -> Claim:
    """Evaluates both parts of the claim; one of them counts as in direction."""
    low, high = min(data.caps_w), max(data.caps_w)
    first, last = data.caps_w.index(low), data.caps_w.index(high)
    between = [i for i, cap in enumerate(data.caps_w) if low < cap < high]
    mean = {m: data.headroom(m).mean(axis=1) for m in data.models}
    near = [m for m in data.models if mean[m][between].max(initial=0.0) < NEAR_ZERO]
    grow = [m for m in data.models if mean[m][first] > NEAR_ZERO]
    many = 2 * len(near) >= len(data.models)
    verdict = NOT_REPRODUCED
    if many or grow:
        verdict = REPRODUCED if many and grow else DIRECTION
    fixed = {m: data.headroom(m, data.fixed).mean(axis=1) for m in data.models}
    return text.evaluated(
        "headroom",
        len(near) / len(data.models),
        verdict,
        sensitivity=_cases(text, data, {low: first, high: last}),
        models=len(data.models),
        near_zero=NEAR_ZERO,
        low=low,
        high=high,
        growing=", ".join(map(model_label, grow)) or "none",
        fixed=data.fixed,
        by_model=", ".join(
            f"{model_label(m)} {own[last]:.0%} ({own[first]:.0%})" for m, own in fixed.items()
        ),
    )


def _cases(text: FigureText, data: TensorHeadroom, caps: dict[float, int]) -> list[SensitivityCase]:
    """Returns the headroom of the fixed size at some caps, given with their indices."""
    cases = []
    for model in data.models:
        for scope in SCOPES:
            headroom = data.headroom(model, data.fixed, scope)
            for cap, index in caps.items():
                choice = text.phrase(
                    "case", model=model_label(model), fixed=data.fixed, cap=cap, scope=scope
                )
                cases.append(SensitivityCase(choice, *interval_of(headroom[index])))
    return cases
