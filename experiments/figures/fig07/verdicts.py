"""Evaluates the gains of the strategies, and PALS's part of the Oracle's gain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.evaluation.statistics import FloatArray, Interval
from experiments.figures.claims import (
    Claim,
    SensitivityCase,
    case_of_runs,
    evaluate,
    interval_of,
    mean_interval,
)
from experiments.figures.fig07.data import Strategies, StrategyRuns
from experiments.figures.plot_marks import controller_label
from experiments.figures.text import FigureText

LEAST_HEADROOM = 0.005
"""Gain of the Oracle below which a fraction of it means nothing."""
_STRATEGIES = ("adaptive_batch", "pals")


def strategy_claims(
    text: FigureText,
    strategies: Strategies,
    outcomes: StrategyRuns,
    variants: Mapping[str, StrategyRuns],
) -> list[Claim]:
    """Evaluates all claims of the figure.

    Args:
        text: Texts of the figure.
        strategies: The scenarios.
        outcomes: Their metrics.
        variants: Metrics under other choices.
    """
    what = {
        "models": len(strategies.models),
        "gpu": strategies.gpus[0],
        "tensor": strategies.tensor,
        "workload": strategies.workload,
        "load": strategies.load,
        "seeds": strategies.seeds,
        "duration": strategies.duration_s,
    }
    claims = [_gain(text, outcomes, variants, name, what) for name in _STRATEGIES]
    return [*claims, _headroom(text, outcomes, variants, what)]


def _gain(
    text: FigureText,
    outcomes: StrategyRuns,
    variants: Mapping[str, StrategyRuns],
    name: str,
    what: Mapping[str, Any],
) -> Claim:
    paper = text.claims[name].paper
    ours = mean_interval(outcomes.relative(name))
    runs = next(iter(outcomes.summaries.values()))
    cap_alone = "adaptive_cap" if "adaptive_cap" in runs else "pals"
    return text.evaluated(
        name,
        ours,
        evaluate(paper, ours, 1.0),
        sensitivity=_cases(text, outcomes, variants, name),
        controller=controller_label(name),
        cap_alone=mean_interval(outcomes.relative(cap_alone)).value,
        violations=mean_interval(100.0 * outcomes.violations(name)),
        **what,
    )


def _cases(
    text: FigureText, outcomes: StrategyRuns, variants: Mapping[str, StrategyRuns], name: str
) -> list[SensitivityCase]:
    system = mean_interval(outcomes.relative(name, "system"))
    cases = [SensitivityCase(text.phrase("node_energy"), *system)]
    for variant, other in variants.items():
        rate = float(np.mean(other.violations(name)))
        choice = text.phrase("variant", name=variant, violations=rate)
        cases.append(SensitivityCase(choice, *mean_interval(other.relative(name))))
    return cases


def _headroom(
    text: FigureText,
    outcomes: StrategyRuns,
    variants: Mapping[str, StrategyRuns],
    what: Mapping[str, Any],
) -> Claim:
    ours = _captured(outcomes)
    pals, oracle = _mean_gains(outcomes)
    cases = [case_of_runs(text.phrase("of_oracle"), pals / oracle)]
    for name, other in variants.items():
        value = _captured(other)
        if np.isfinite(value.value):
            cases.append(SensitivityCase(name, *value))
    return text.evaluated(
        "oracle_headroom",
        ours,
        evaluate(text.claims["oracle_headroom"].paper, ours, 0.0),
        sensitivity=cases,
        oracle=mean_interval(outcomes.relative("oracle")),
        oracle_violations=float(np.mean(outcomes.violations("oracle"))),
        pals_violations=float(np.mean(outcomes.violations("pals"))),
        **what,
    )


def _mean_gains(outcomes: StrategyRuns) -> tuple[FloatArray, FloatArray]:
    """Returns the tokens/J of PALS and Oracle over Baseline's, means over scenarios, per seed."""
    return outcomes.relative("pals").mean(axis=1), outcomes.relative("oracle").mean(axis=1)


def _captured(outcomes: StrategyRuns) -> Interval:
    """Returns PALS's gain over the Oracle's; not a number where the Oracle gains nothing."""
    pals, oracle = _mean_gains(outcomes)
    if float(oracle.mean()) - 1.0 < LEAST_HEADROOM:
        return Interval(float("nan"), float("nan"), float("nan"))
    return interval_of((pals - 1.0) / np.maximum(oracle - 1.0, 1e-3))
