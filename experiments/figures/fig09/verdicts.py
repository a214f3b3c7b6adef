"""Evaluates violations and efficiency of PALS and Baseline under one budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.evaluation.statistics import Interval
from experiments.figures.claims import (
    DIRECTION,
    NOT_REPRODUCED,
    VERDICTS,
    Claim,
    SensitivityCase,
    evaluate,
    interval_of,
    mean_interval,
)
from experiments.figures.fig09.data import (
    BASELINE,
    DEFINITIONS,
    PLAIN,
    REFERENCE,
    NodeRuns,
)
from experiments.figures.plot_marks import model_label
from experiments.figures.text import FigureText

LEAST_RATE = 1e-4
"""Rate that lower rates of violations count as, so that a ratio of rates is finite."""
Variants = Mapping[str, NodeRuns]


def qos_claims(text: FigureText, data: NodeRuns, variants: Variants, scenario: str) -> list[Claim]:
    """Evaluates all claims of the figure.

    Args:
        text: Texts of the figure.
        data: Runs of the main variant.
        variants: Runs of the other variants.
        scenario: What was run, in words.
    """
    return [
        *(_violations(text, data, variants, name, scenario) for name in (BASELINE, "pals")),
        _factor(text, data, variants, scenario),
        _efficiency(text, data, variants, scenario),
    ]


def _violations(
    text: FigureText, data: NodeRuns, variants: Variants, name: str, scenario: str
) -> Claim:
    paper = text.claims[f"violations_{name}"].paper
    rates = data.by_node(name, PLAIN)
    ours = mean_interval(rates)
    verdict = evaluate(paper, ours, 0.0)
    if verdict == DIRECTION:  # any rate is above zero: PALS has to be below Baseline
        verdict = _fewer_violations(text, data) if name == "pals" else NOT_REPRODUCED
    by_node = ", ".join(
        f"{model_label(model)} {rate:.1%}"
        for model, rate in zip(data.nodes.values(), rates.mean(axis=0), strict=True)
    )
    return text.evaluated(
        f"violations_{name}",
        ours,
        verdict,
        sensitivity=_rate_cases(text, data, variants, name),
        scenario=scenario,
        by_node=by_node,
        both="; ".join(_both_in_range(text, data, variants)) or "none",
    )


def _fewer_violations(text: FigureText, data: NodeRuns) -> str:
    """Evaluates by how much PALS has fewer violations than Baseline; at best in direction."""
    base, pals = _ranges(text)
    difference = [one - other for one, other in zip(base, pals, strict=True)]
    rates = data.by_node(BASELINE, PLAIN) - data.by_node("pals", PLAIN)
    verdict = evaluate(difference, mean_interval(rates), 0.0)
    return max(verdict, DIRECTION, key=VERDICTS.index)


def _ranges(text: FigureText) -> tuple[Sequence[float], Sequence[float]]:
    """Returns the paper's ranges of Baseline and PALS."""
    return text.claims[f"violations_{BASELINE}"].paper, text.claims["violations_pals"].paper


def _both_in_range(text: FigureText, data: NodeRuns, variants: Variants) -> list[str]:
    """Returns the choices under which Baseline and PALS are both in the paper's ranges."""
    base_range, pals_range = _ranges(text)
    base = _rate_cases(text, data, variants, BASELINE)
    pals = _rate_cases(text, data, variants, "pals")
    return [
        first.choice
        for first, second in zip(base, pals, strict=True)
        if base_range[0] <= first.value <= base_range[1]
        and pals_range[0] <= second.value <= pals_range[1]
    ]


def _rate_cases(
    text: FigureText, data: NodeRuns, variants: Variants, name: str
) -> list[SensitivityCase]:
    """Returns the rate by definition, and that of the variants by the first two definitions."""
    cases = [
        SensitivityCase(_definition(text, key), *mean_interval(data.by_node(name, key)))
        for key in DEFINITIONS
    ]
    for variant, runs in variants.items():
        for key in (PLAIN, REFERENCE):
            choice = f"{variant}, {text.phrase(key).partition(':')[0]}"
            cases.append(SensitivityCase(choice, *mean_interval(runs.by_node(name, key))))
    return cases


def _definition(text: FigureText, key: str) -> str:
    return text.phrase("definition", words=text.phrase(key))


def _factor(text: FigureText, data: NodeRuns, variants: Variants, scenario: str) -> Claim:
    def factor(runs: NodeRuns, key: str = PLAIN) -> Interval:
        base, pals = (runs.by_node(name, key).mean(axis=1) for name in (BASELINE, "pals"))
        return interval_of(base / np.maximum(pals, LEAST_RATE))

    ours = factor(data)
    cases = [SensitivityCase(_definition(text, key), *factor(data, key)) for key in DEFINITIONS]
    cases += [SensitivityCase(f"{name}, plain", *factor(runs)) for name, runs in variants.items()]
    verdict = evaluate(text.claims["factor"].paper, ours, 1.0)
    return text.evaluated("factor", ours, verdict, sensitivity=cases, scenario=scenario)


def _efficiency(text: FigureText, data: NodeRuns, variants: Variants, scenario: str) -> Claim:
    ours = interval_of(data.gain("pals") - 1.0)
    system = interval_of(data.gain("pals", "tokens_per_joule_system") - 1.0)
    cases = [SensitivityCase(text.phrase("node_energy"), *system)]
    cases += [
        SensitivityCase(name, *interval_of(runs.gain("pals") - 1.0))
        for name, runs in variants.items()
    ]
    return text.evaluated(
        "efficiency",
        ours,
        evaluate(text.claims["efficiency"].paper, ours, 0.0),
        sensitivity=cases,
        scenario=scenario,
        reference_rate=float(np.mean(data.by_node("pals", REFERENCE))),
    )
