"""Episodes under controllers: batched on single servers, and whole runs of any environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from envs.errors import PalsError
from experiments.app.errors import describe
from experiments.app.settings import RunConfig
from experiments.benchmarking.metrics import MetricRow
from experiments.benchmarking.scenario_runs import ScenarioRuns
from experiments.comparison.runner import PlannedRun, run_all
from experiments.evaluation.metrics import Summary
from experiments.evaluation.suites import SuiteScenario
from experiments.figures.context import FIRST_SEED, FigureContext
from experiments.runs.interruption import FAILURES
from experiments.runs.recorder import INTERVALS_FILE

Summaries = dict[str, dict[str, list[MetricRow]]]
"""Metrics of every episode by scenario and controller."""


@dataclass(frozen=True)
class _Task:
    config: RunConfig
    name: str
    scenario: SuiteScenario
    seeds: range
    directory: Path
    controllers: dict[str, Any]


def run_scenarios(
    context: FigureContext,
    stage: str,
    scenarios: Mapping[str, SuiteScenario],
    controllers: Mapping[str, Any],
    *,
    seeds: int,
    duration_s: float,
    overrides: Sequence[str] = (),
) -> Summaries:
    """Runs controllers on single servers, all seeds of a scenario at once; results are kept.

    Args:
        context: Where to run.
        stage: Name of the progress bar.
        scenarios: The scenarios by name; equal names must mean equal scenarios.
        controllers: Choices of controllers by name.
        seeds: Episodes per scenario.
        duration_s: Length of an episode in seconds.
        overrides: Overrides of the configuration, for all scenarios.

    Raises:
        PalsError: Runs failed; the others are kept.
    """
    config = context.compose(f"duration={duration_s}", *overrides)
    used = range(FIRST_SEED, FIRST_SEED + seeds)
    folder = context.directory / "runs" / "scenarios"
    tasks = [
        _Task(config, name, scenario, used, folder, dict(controllers))
        for name, scenario in scenarios.items()
    ]
    found: Summaries = {}
    failures = []
    context.report(stage, 0, len(tasks))
    for done, (name, runs, failure) in enumerate(context.executor.map(_run, tasks), start=1):
        found[name] = runs
        if failure is not None:
            failures.append(f"{name}: {failure}")
        context.report(stage, done, len(tasks))
    if failures:
        raise PalsError("scenarios failed (the others are kept):\n" + "\n".join(sorted(failures)))
    return {name: found[name] for name in scenarios}


def _run(task: _Task) -> tuple[str, dict[str, list[MetricRow]], str | None]:
    runs: dict[str, list[MetricRow]] = {}
    try:
        config = task.config
        scenario = ScenarioRuns(
            config.scenario, config.profile, task.name, task.scenario, task.seeds, task.directory
        )
        for name, choice in task.controllers.items():
            runs[name] = scenario.run(name, choice)
    except FAILURES as error:
        return task.name, runs, describe(error)
    return task.name, runs, None


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run of one controller.

    Attributes:
        variant: Name of the variant.
        controller: Name of the controller.
        seed: Seed.
        summary: Its metrics.
        directory: Folder of its files.
    """

    variant: str
    controller: str
    seed: int
    summary: Summary
    directory: Path

    def intervals(self) -> pandas.DataFrame:
        """Returns its rows, one per interval (and node)."""
        return pandas.read_parquet(self.directory / INTERVALS_FILE)


def run_variants(
    context: FigureContext,
    stage: str,
    variants: Mapping[str, Sequence[str]],
    controllers: Mapping[str, Sequence[str]],
    *,
    seeds: int,
    duration_s: float,
) -> list[FinishedRun]:
    """Runs controllers as ``experiments.run`` does, in several variants; runs are kept.

    Args:
        context: Where to run.
        stage: Name of the progress bar, and of the folder of the runs.
        variants: Overrides by variant.
        controllers: Names of the controllers by variant.
        seeds: Episodes per variant and controller.
        duration_s: Length of an episode in seconds.
    """
    planned: list[PlannedRun] = []
    kept: list[tuple[str, PlannedRun]] = []
    for variant, overrides in variants.items():
        for name in controllers[variant]:
            for seed in range(FIRST_SEED, FIRST_SEED + seeds):
                config = context.compose(
                    *overrides, f"controller={name}", f"seed={seed}", f"duration={duration_s}"
                )
                folder = context.directory / "runs" / stage / variant / name / f"seed_{seed}"
                planned.append(PlannedRun(config.scenario, config.options(name), folder))
                kept.append((variant, planned[-1]))
    summaries = run_all(
        planned, context.executor, lambda done, total: context.report(stage, done, total)
    )
    return [
        FinishedRun(variant, run.options.controller_name, run.options.seed, summary, run.directory)
        for (variant, run), summary in zip(kept, summaries, strict=True)
    ]
