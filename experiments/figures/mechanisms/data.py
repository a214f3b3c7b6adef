"""Runs the mechanisms and computes each claim's value under them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.evaluation.statistics import FloatArray, Interval
from experiments.evaluation.suites import SuiteScenario
from experiments.figures.claims import evaluate, interval_of, mean_interval
from experiments.figures.context import FigureContext
from experiments.figures.episodes import FinishedRun, run_scenarios, run_variants
from experiments.figures.fig09.verdicts import LEAST_RATE
from experiments.figures.fig10.data import BASE, DemandResponse, cluster_series
from experiments.figures.mechanisms.config import (
    CLUSTER_VIOLATIONS,
    RATIO,
    Trial,
    merged,
)

NEUTRAL = 1.0
"""A ratio that means no effect."""
BINS = 5
_CONTROLLERS = {CLUSTER_VIOLATIONS: ("static", "pals")}
_TARGET_CONTROLLERS = (BASE, "pals")


@dataclass(frozen=True)
class Outcome:
    """A claim's value under one mechanism.

    Attributes:
        mechanism: Its name.
        ours: The value, with its interval.
        verdict: What it is beside the paper's.
    """

    mechanism: str
    ours: Interval
    verdict: str


def outcomes(
    context: FigureContext, name: str, trial: Trial, *, seeds: int, duration_s: float
) -> list[Outcome]:
    """Runs a claim under all of its mechanisms.

    Args:
        context: Where to run.
        name: Short name of the claim.
        trial: The claim.
        seeds: Episodes of each.
        duration_s: Length of an episode in seconds.
    """
    trials = {mechanism: trial.under(mechanism) for mechanism in trial.mechanisms}
    run = _ratios if trial.kind == RATIO else _clusters
    values = run(context, name, trials, seeds, duration_s)
    paper = trial.paper[0] if len(trial.paper) == 1 else trial.paper
    return [
        Outcome(mechanism, ours, evaluate(paper, ours, NEUTRAL))
        for mechanism, ours in values.items()
    ]


def _ratios(
    context: FigureContext, name: str, trials: Mapping[str, Trial], seeds: int, duration_s: float
) -> dict[str, Interval]:
    found: dict[str, Interval] = {}
    folders = _shared(
        {name: (trial.of, trial.scenario, trial.apart) for name, trial in trials.items()}
    )
    for mechanism, trial in trials.items():
        folder = f"{name}-{folders[mechanism]}"
        both = {f"{folder}-{model}": _scenario(model, trial.scenario) for model in trial.models}
        rivals = {f"rival{number}": choice for number, choice in enumerate(trial.over)}
        controllers: dict[str, Any] = {"own": trial.of, **rivals}
        runs = run_scenarios(context, folder, both, controllers, seeds=seeds, duration_s=duration_s)
        own = _column(runs, "own", trial.metric)
        if trial.apart:
            parts = merged(trial.scenario, trial.apart)
            apart = {f"{folder}-apart-{model}": _scenario(model, parts) for model in trial.models}
            more = run_scenarios(
                context, f"{folder}, apart", apart, {"own": trial.of},
                seeds=seeds, duration_s=duration_s,
            )  # fmt: skip
            own = _column(more, "own", trial.metric)
        best = np.max([_column(runs, rival, trial.metric) for rival in rivals], axis=0)
        found[mechanism] = mean_interval(own / best)
    return found


def _shared(what_is_run: Mapping[str, Any]) -> dict[str, str]:
    """Returns the mechanism whose runs each one uses: the first that runs the same."""
    first: dict[str, str] = {}
    return {name: first.setdefault(repr(runs), name) for name, runs in what_is_run.items()}


def _scenario(model: str, parts: Mapping[str, Any]) -> SuiteScenario:
    return SuiteScenario(model=model, **parts)


def _column(runs: Mapping[str, Mapping[str, Any]], name: str, metric: str) -> FloatArray:
    """Returns a metric of a controller, shape ``(seeds, models)``."""
    return np.array([[own[metric] for own in scenario[name]] for scenario in runs.values()]).T


def _clusters(
    context: FigureContext, name: str, trials: Mapping[str, Trial], seeds: int, duration_s: float
) -> dict[str, Interval]:
    kind = next(iter(trials.values())).kind
    controllers = _CONTROLLERS.get(kind, _TARGET_CONTROLLERS)
    variants = _shared({name: trial.overrides for name, trial in trials.items()})
    runs = run_variants(
        context,
        name,
        {variant: trials[variant].overrides for variant in variants.values()},
        dict.fromkeys(variants.values(), controllers),
        seeds=seeds,
        duration_s=duration_s,
    )
    found = {}
    for mechanism, trial in trials.items():
        own = [run for run in runs if run.variant == variants[mechanism]]
        if kind == CLUSTER_VIOLATIONS:
            rates = [_violations(own, who, trial.metric) for who in controllers]
            values = np.maximum(rates[0], LEAST_RATE) / np.maximum(rates[1], LEAST_RATE)
        else:
            response = DemandResponse(BINS, {run: cluster_series(run) for run in own})
            values = NEUTRAL + response.gains("pals")[1][0]
        found[mechanism] = interval_of(values)
    return found


def _violations(runs: list[FinishedRun], controller: str, metric: str) -> FloatArray:
    """Returns a controller's rates, means over the nodes, shape ``(seeds,)``."""
    return np.array(
        [
            np.mean([node[metric] or 0.0 for node in run.summary["nodes"].values()])
            for run in runs
            if run.controller == controller
        ]
    )
