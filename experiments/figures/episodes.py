"""Episodes under controllers: batched ones of single servers, and whole runs of clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
from omegaconf import DictConfig

from envs import catalog
from envs.errors import PalsError
from experiments.app.application import describe
from experiments.benchmarking.metrics import MetricRow
from experiments.benchmarking.scenario_runs import ScenarioRuns
from experiments.comparison.runner import PlannedRun, run_all
from experiments.evaluation.metrics import Summary
from experiments.evaluation.suites import SuiteScenario
from experiments.figures.context import FIRST_SEED, Workshop
from experiments.runs.runner import INTERVALS_FILE

Summaries = dict[str, dict[str, list[MetricRow]]]
"""Metrics of every episode by scenario and controller."""


@dataclass(frozen=True)
class _Task:
    config: DictConfig
    name: str
    setting: SuiteScenario
    seeds: range
    directory: Path
    controllers: dict[str, Any]


def run_scenarios(
    workshop: Workshop,
    what: str,
    settings: Mapping[str, SuiteScenario],
    controllers: Mapping[str, Any],
    *,
    seeds: int,
    duration_s: float,
    overrides: Sequence[str] = (),
) -> Summaries:
    """Runs controllers on single servers, all seeds of a setting at once; results are kept.

    Args:
        workshop: Where to run.
        what: Name of the progress bar.
        settings: The settings by name; equal names must mean equal settings.
        controllers: Choices of controllers by name.
        seeds: Episodes per setting.
        duration_s: Length of an episode in seconds.
        overrides: Overrides of the configuration, for all settings.

    Raises:
        PalsError: Runs failed; the others are kept.
    """
    config = workshop.compose(f"duration={duration_s}", *overrides)
    used = range(FIRST_SEED, FIRST_SEED + seeds)
    folder = workshop.directory / "runs" / "settings"
    tasks = [
        _Task(config, name, setting, used, folder, dict(controllers))
        for name, setting in settings.items()
    ]
    found: Summaries = {}
    failures = []
    workshop.tell(what, 0, len(tasks))
    for done, (name, runs, failure) in enumerate(workshop.executor.map(_run, tasks), start=1):
        found[name] = runs
        if failure is not None:
            failures.append(f"{name}: {failure}")
        workshop.tell(what, done, len(tasks))
    if failures:
        raise PalsError("settings failed (the others are kept):\n" + "\n".join(sorted(failures)))
    return {name: found[name] for name in settings}


def _run(task: _Task) -> tuple[str, dict[str, list[MetricRow]], str | None]:
    runs: dict[str, list[MetricRow]] = {}
    try:
        for package in task.config.allow_packages:
            catalog.allow_package(package)
        setting = ScenarioRuns(task.config, task.name, task.setting, task.seeds, task.directory)
        for name, choice in task.controllers.items():
            runs[name] = setting.run(name, choice)
    except Exception as error:
        return task.name, runs, describe(error)
    return task.name, runs, None


@dataclass(frozen=True, eq=False)
class Run:
    """One finished run.

    Attributes:
        variant: Name of its variant.
        controller: Name of its controller.
        seed: Its seed.
        summary: Its figures.
        directory: Its folder.
    """

    variant: str
    controller: str
    seed: int
    summary: Summary
    directory: Path

    def intervals(self) -> pandas.DataFrame:
        """Returns its rows, one an interval (and node)."""
        return pandas.read_parquet(self.directory / INTERVALS_FILE)


def run_whole(
    workshop: Workshop,
    what: str,
    variants: Mapping[str, Sequence[str]],
    controllers: Mapping[str, Sequence[str]],
    *,
    seeds: int,
    duration_s: float,
) -> list[Run]:
    """Runs controllers as ``experiments.run`` does, several variants of them; runs are kept.

    Args:
        workshop: Where to run.
        what: Name of the progress bar, and of the folder of the runs.
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
                config = workshop.compose(
                    *overrides, f"controller={name}", f"seed={seed}", f"duration={duration_s}"
                )
                folder = workshop.directory / "runs" / what / variant / name / f"seed_{seed}"
                planned.append(PlannedRun(name, seed, config, folder))
                kept.append((variant, planned[-1]))
    summaries = run_all(
        planned, workshop.executor, lambda done, total: workshop.tell(what, done, total)
    )
    return [
        Run(variant, run.controller, run.seed, summary, run.directory)
        for (variant, run), summary in zip(kept, summaries, strict=True)
    ]
