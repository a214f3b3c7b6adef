"""Tunes controllers, each within its budget of simulated hours, and evaluates their fronts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agents.bundle import find_bundle, read_bundle
from envs import catalog
from envs.errors import PalsError
from envs.scenario import described
from envs.sources import computation_hash
from experiments.app.errors import describe
from experiments.app.executors import Executor
from experiments.benchmarking.fronts import episodes_of
from experiments.benchmarking.metrics import BASELINE, Results
from experiments.benchmarking.scenario_runs import ScenarioRuns
from experiments.evaluation.choices import with_knobs
from experiments.evaluation.fronts import Episodes, FloatArray, hypervolume, thinned
from experiments.evaluation.suites import Suite
from experiments.records.hashing import digest, plain
from experiments.runs.interruption import FAILURES
from experiments.tuning.config import TuneConfig
from experiments.tuning.space import SearchSpace
from experiments.tuning.trials import Trials, Tried

OnProgress = Callable[[int, int], None]
QUARTERS = (0.25, 0.5, 1.0)
"""Parts of a search after which its hypervolume is told."""


class Tuned(NamedTuple):
    """A controller's front.

    Attributes:
        trials: How many trials there were.
        hours: Simulated hours that they took.
        trained_hours: Simulated hours that the controller had been trained for.
        progress: Hypervolume that the search had after each of :data:`QUARTERS` of its trials, on
            the scenarios that it saw.
        front: The trials that are evaluated again, by rising violations.
        episodes: What they did on the test suite, or where they were tuned without one.
    """

    trials: int
    hours: float
    trained_hours: float
    progress: list[float]
    front: list[Tried]
    episodes: Episodes


class SuiteRuns:
    """Runs controllers on all scenarios of a suite; what was run before is kept.

    Args:
        config: The tuning.
        suite: The scenarios.
        seeds: Episodes per scenario.
        duration_s: Length of the episodes in seconds.
        directory: Where runs are kept.
    """

    def __init__(
        self, config: TuneConfig, suite: Suite, seeds: int, duration_s: float, directory: Path
    ) -> None:
        self._duration_s = duration_s
        shared = replace(config.scenario, duration_s=duration_s)
        own = range(suite.seed, suite.seed + seeds)
        self._runs = [
            ScenarioRuns(shared, config.profile, name, scenario, own, directory)
            for name, scenario in suite.scenarios.items()
        ]

    def run(self, choices: Mapping[str, Any]) -> Episodes:
        """Returns what some choices did, in their order.

        Args:
            choices: Controllers' choices by the name that their runs are kept under.

        Raises:
            PalsError: Violations cannot be counted in any scenario.
        """
        results: Results = {
            runs.name: {
                name: runs.run(name, choice)
                for name, choice in {BASELINE: BASELINE, **choices}.items()
            }
            for runs in self._runs
        }
        found = episodes_of(results, list(choices))
        if np.isnan(found.violations).all():
            raise PalsError(
                "violations cannot be counted: no scenario has a target in episodes that last "
                f"beyond the warm-up (objective.qos.warmup_s); {self._duration_s:g} s are too short"
            )
        return found


@dataclass(frozen=True)
class _Task:
    config: TuneConfig
    name: str
    space: SearchSpace
    directory: Path


def tune_all(config: TuneConfig, directory: Path, on_progress: OnProgress) -> dict[str, Tuned]:
    """Tunes every controller, and returns the fronts by the search spaces' names.

    Args:
        config: The tuning.
        directory: Its folder; trials and runs of an earlier run in it are kept.
        on_progress: Called with the controllers done and all controllers.

    Raises:
        PalsError: A controller failed; what the others found is kept.
    """
    tasks = [_Task(config, name, space, directory) for name, space in config.spaces().items()]
    executor: Executor = catalog.build("executor", config.executor)
    found: dict[str, Tuned] = {}
    failures: list[str] = []
    on_progress(0, len(tasks))
    for number, (name, tuned, failure) in enumerate(executor.map(_tune, tasks), start=1):
        if tuned is None:
            failures.append(f"{name}: {failure}")
        else:
            found[name] = tuned
        on_progress(number, len(tasks))
    if failures:
        raise PalsError("controllers failed (the others are kept):\n" + "\n".join(sorted(failures)))
    return {task.name: found[task.name] for task in tasks}


def _tune(task: _Task) -> tuple[str, Tuned | None, str | None]:
    try:
        return task.name, tune(task.config, task.name, task.space, task.directory), None
    except FAILURES as error:
        return task.name, None, describe(error)


def tune(config: TuneConfig, name: str, space: SearchSpace, directory: Path) -> Tuned:
    """Tunes one controller and evaluates its front on the test suite.

    Args:
        config: The tuning.
        name: Name of the search space.
        space: The search space.
        directory: The tuning's folder.
    """
    suite = config.built_suite("suite")
    runs = SuiteRuns(config, suite, config.seeds, config.duration, directory / "runs")
    trials = Trials(
        directory / "studies" / f"{name}.json", space, _conditions(config, space), config.seed,
        config.startup,
    )  # fmt: skip

    def evaluate(choice: dict[str, Any]) -> tuple[float, float]:
        means = runs.run({f"{name}-{digest(choice)}": choice}).means()
        return float(means[0][0]), float(means[1][0])

    trained = trained_hours(space)
    count = max(1, int((config.hours - trained) / config.trial_hours + 1e-9))
    base: dict[str, Any] = space.choice({})
    defaults = space.defaults(catalog.build("controller", with_knobs(base)[0]))
    trials.run(count, defaults, evaluate)
    done = trials.done
    efficiency, violations = (np.array([getattr(t, k) for t in done]) for k in Tried._fields[1:])
    chosen = [done[index] for index in thinned(efficiency, violations, config.points)]
    tested = runs
    if config.test:
        tested = SuiteRuns(
            config, config.built_suite("test_suite"), config.test_seeds, config.test_duration,
            directory / "test_runs",
        )  # fmt: skip
    choices = [space.choice(one.values) for one in chosen]
    return Tuned(
        len(done),
        len(done) * config.trial_hours,
        trained,
        [_after(part, efficiency, violations) for part in QUARTERS],
        chosen,
        tested.run({f"{name}-{digest(choice)}": choice for choice in choices}),
    )


def _after(part: float, efficiency: FloatArray, violations: FloatArray) -> float:
    """Returns the hypervolume of a part of the trials, in the order in which they were tried."""
    count = max(1, round(part * len(efficiency)))
    return hypervolume(efficiency[:count], violations[:count])


def trained_hours(space: SearchSpace) -> float:
    """Returns the simulated hours that a bundle was trained for; 0 for other controllers."""
    node = plain(catalog.load("controller", with_knobs(space.choice({}))[0]))
    if "bundle" not in node:
        return 0.0
    bundle = read_bundle(find_bundle(node["bundle"]))
    return float(bundle.evaluation["steps"] * bundle.configuration["interval"] / 3600.0)


def _conditions(config: TuneConfig, space: SearchSpace) -> str:
    """Returns the hash of what a trial's outcome depends on besides its parameters."""
    suite = config.built_suite("suite")
    return digest(
        {name: one.parts for name, one in suite.scenarios.items()},
        described("search", space),
        config.scenario.content(),
        described("profile", config.profile),
        [suite.seed, config.seeds, config.duration, config.seed, config.startup],
        computation_hash(),
    )
