"""Several controllers on the same episodes: which runs there are, and what they add up to."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from envs.errors import ConfigurationError, PalsError
from envs.scenario import Scenario
from experiments.app.composition import composed
from experiments.app.errors import describe
from experiments.app.executors import Executor
from experiments.app.settings import CompareConfig
from experiments.evaluation.aggregate import CONFIDENCE, aggregated, metric_names
from experiments.evaluation.metric_table import TOKENS_PER_JOULE_RELATIVE
from experiments.evaluation.metrics import Summary
from experiments.evaluation.statistics import probability_of_improvement
from experiments.records.reuse import Origin, reuse_lines
from experiments.runs.interruption import FAILURES
from experiments.runs.kept_runs import KeptRun, kept_run
from experiments.runs.options import RunOptions, seed_list
from experiments.runs.runner import execute

BASELINE = "static"
EFFICIENCY = "tokens_per_joule"
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison.

    Attributes:
        scenario: What is controlled.
        options: Who controls it, and with which seed.
        directory: Where its files go.
    """

    scenario: Scenario
    options: RunOptions
    directory: Path

    @property
    def name(self) -> str:
        """Short name for people."""
        return f"{self.options.controller_name}, seed {self.options.seed}"


def plan(
    config: CompareConfig, directory: Path, config_name: str, overrides: Sequence[str]
) -> list[PlannedRun]:
    """Returns the runs of a comparison: every controller on every seed.

    Args:
        config: The comparison's configuration.
        directory: The comparison's folder.
        config_name: Name of the configuration the application was started with.
        overrides: Overrides it was started with; they hold for every run.

    Raises:
        ConfigurationError: No controller is named, or one twice.
    """
    controllers = list(config.controllers)
    if not controllers or len(set(controllers)) < len(controllers):
        raise ConfigurationError(
            f"controllers: must be a list of different controllers, got {controllers}"
        )
    if any(text.partition("=")[0] == "controller" for text in overrides):
        raise ConfigurationError("controller: a comparison takes controllers=[...] instead")
    configs: dict[str, CompareConfig] = {
        name: composed(CompareConfig, config_name, *overrides, f"controller={name}")
        for name in controllers
    }
    runs = []
    for seed in seed_list(config.seeds, config.seed):
        for name, shared in configs.items():
            options = replace(shared.options(name), seed=seed)
            folder = directory / "runs" / name / f"seed_{seed}"
            runs.append(PlannedRun(shared.scenario, options, folder))
    return runs


def run_all(
    runs: Sequence[PlannedRun],
    executor: Executor,
    on_progress: OnProgress,
    on_reuse: Callable[[list[str]], None] | None = None,
) -> list[Summary]:
    """Runs what has not been run yet and returns all summaries, in the order of ``runs``.

    Args:
        runs: What is to be run.
        executor: How runs are spread over processes.
        on_progress: Called with the runs done and all runs.
        on_reuse: Called with lines on which runs were there before, and why they are used or not.

    Raises:
        PalsError: Runs failed; the others were finished and need not be run again.
    """
    found = [_kept(run) for run in runs]
    if on_reuse is not None:
        on_reuse(
            reuse_lines(
                Origin(run.name, kept.summary is not None, kept.reasons)
                for run, kept in zip(runs, found, strict=True)
            )
        )
    todo = [run for run, kept in zip(runs, found, strict=True) if kept.summary is None]
    done = len(runs) - len(todo)
    on_progress(done, len(runs))
    failures = []
    for failure in executor.map(attempt, todo):
        if failure is not None:
            failures.append(failure)
        done += 1
        on_progress(done, len(runs))
    if failures:
        raise PalsError(
            f"{len(failures)} of {len(runs)} runs failed (the others are kept):\n"
            + "\n".join(sorted(failures))
        )
    summaries = [_kept(run).summary for run in runs]
    known = [summary for summary in summaries if summary is not None]
    if len(known) < len(runs):
        raise PalsError(
            f"{len(runs) - len(known)} of {len(runs)} runs were made by other code than is "
            "there now: the source changed meanwhile; start the comparison again"
        )
    return known


def _kept(run: PlannedRun) -> KeptRun:
    return kept_run(run.scenario, run.options, run.directory)


def attempt(run: PlannedRun) -> str | None:
    """Executes one run; returns why it failed, or ``None``."""
    try:
        execute(run.scenario, run.options, run.directory)
    except FAILURES as error:
        if run.options.traceback:
            traceback.print_exception(error)
        return f"{run.name}: {describe(error)}"
    return None


def metric_rows(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """Returns one flat row per run, with the efficiency relative to the Baseline strategy.

    ``tokens_per_joule_relative`` divides by the same seed's ``static`` run, or by the first
    controller's when ``static`` takes no part.
    """
    names = list(dict.fromkeys(summary["controller"] for summary in summaries))
    base = BASELINE if BASELINE in names else names[0]
    unit = {s["seed"]: s[EFFICIENCY] for s in summaries if s["controller"] == base}
    rows = []
    for summary in summaries:
        row = {key: value for key, value in summary.items() if not isinstance(value, dict | list)}
        value, reference = summary[EFFICIENCY], unit[summary["seed"]]
        known = value is not None and reference
        row[TOKENS_PER_JOULE_RELATIVE] = value / reference if known else None
        rows.append(row)
    return rows


def aggregate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns interquartile means with 95 % stratified-bootstrap intervals.

    Args:
        rows: What :func:`metric_rows` returns.

    Returns:
        ``controllers``: per controller and metric ``iqm``, ``ci_low``, ``ci_high`` and the
        ``values`` by seed, or ``None`` where the metric does not apply; and
        ``probability_of_improvement``: how likely a run of the one controller gives more
        tokens per joule than a run of the other.
    """
    names = list(dict.fromkeys(row["controller"] for row in rows))
    keys = metric_names(rows[0])
    by_name = {name: [row for row in rows if row["controller"] == name] for name in names}
    return {
        "seeds": sorted({row["seed"] for row in rows}),
        "confidence": CONFIDENCE,
        "controllers": {
            name: {key: aggregated([row[key] for row in by_name[name]]) for key in keys}
            for name in names
        },
        "probability_of_improvement": {
            name: {
                other: _improvement(by_name[name], by_name[other])
                for other in names
                if other != name
            }
            for name in names
        },
    }


def _improvement(
    rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]
) -> dict[str, float] | None:
    scores = [[row[EFFICIENCY] for row in group] for group in (rows, others)]
    if any(value is None for group in scores for value in group):
        return None
    result = probability_of_improvement(np.array(scores[0]), np.array(scores[1]))
    return {"probability": result.value, "ci_low": result.low, "ci_high": result.high}
