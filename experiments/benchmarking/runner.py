"""The benchmark: every controller on every scenario of a suite, on the same episodes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from agents.bundle import find_bundle, read_bundle
from envs import catalog
from envs.errors import ConfigurationError, PalsError
from envs.quantities import Seeds
from envs.user_paths import user_path
from experiments.app.errors import describe
from experiments.app.executors import Executor
from experiments.app.settings import RunConfig
from experiments.app.yaml_file import read_yaml
from experiments.benchmarking.fronts import point_name
from experiments.benchmarking.metrics import BASELINE, MetricRow
from experiments.benchmarking.scenario_runs import ScenarioRuns
from experiments.evaluation.choices import ACTION, nested, with_knobs
from experiments.evaluation.suites import EPISODES_OF_SUITE, NO_EFFECT, Suite
from experiments.records.hashing import plain
from experiments.records.reuse import Origin, reuse_lines
from experiments.runs.interruption import FAILURES


@dataclass(kw_only=True)
class BenchmarkConfig(RunConfig):
    """What the benchmark is made of (``conf/benchmark.yaml``).

    Attributes:
        controllers: Names of the controllers in ``conf/controller``.
        bundles: Further trained agents: folders of trainings, which they are named after.
        sweeps: Fronts of controllers: values of their parameters, by key
            (``[{ppo: {violation_limit: [0.01, 0.05]}}]``). Every combination of the lists is a
            point, a single value is the same in all. A front is named after its controller, or
            has another name and the key ``controller``; ``action`` is its encoding of actions
            where that is another one than all others'.
        fronts: Files of tuned fronts (``fronts.yaml`` of ``experiments.tune``).
        subject: The controller that the goals are checked for.
        restricted: The same agent with the cap as its only knob; ``None`` leaves the
            comparison out.
        suite: The scenarios.
        seeds: Episodes per scenario.
        report: Folder that gets the report and its plots, too; ``None`` for none.
        executor: How scenarios are spread over processes.
    """

    no_effect: ClassVar[Mapping[str, str]] = NO_EFFECT | EPISODES_OF_SUITE

    controllers: list[str] = field(default_factory=list)
    bundles: list[str] = field(default_factory=list)
    sweeps: list[Any] = field(default_factory=list)
    fronts: list[str] = field(default_factory=list)
    subject: str = "ppo"
    restricted: str | None = None
    suite: Any = None
    seeds: Seeds = 8
    report: str | None = None
    executor: Any = None


def controller_choices(config: BenchmarkConfig) -> dict[str, Any]:
    """Returns the controllers of a benchmark: their choices by name."""
    choices: dict[str, Any] = {str(name): str(name) for name in config.controllers}
    for bundle in config.bundles:
        choices[Path(bundle).name] = {"base": "agent", "bundle": str(bundle)}
    return choices


def front_choices(config: BenchmarkConfig) -> dict[str, dict[str, Any]]:
    """Returns the points of each front: their choices by the name of their runs.

    Raises:
        ConfigurationError: A file holds no fronts, or a front has no point or two origins.
    """
    found: dict[str, list[Any]] = {}

    def add(key: str, name: str, choices: Any) -> None:
        if name in found:
            raise ConfigurationError(f"{key}: the front of {name!r} is there already")
        if not isinstance(choices, list) or not choices:
            raise ConfigurationError(f"{key}.{name}: must be a list of choices, got {choices!r}")
        found[name] = choices

    for file in config.fronts:
        content = read_yaml(user_path(file, "fronts"))
        if not isinstance(content, dict):
            raise ConfigurationError(f"fronts: {file} holds no fronts by name")
        for name, choices in content.items():
            add("fronts", str(name), choices)
    for name, sweep in (item for one in config.sweeps for item in dict(one).items()):
        add("sweeps", str(name), _combinations(str(name), sweep))
    return {
        name: {point_name(name, number): choice for number, choice in enumerate(choices)}
        for name, choices in found.items()
    }


def _combinations(name: str, sweep: Any) -> list[dict[str, Any]]:
    """Returns a choice for every combination of the values that are swept."""
    own = {str(key): value for key, value in sweep.items()} if isinstance(sweep, dict) else {}
    action, controller = own.pop(ACTION, None), str(own.pop("controller", name))
    swept = {key: value for key, value in own.items() if isinstance(value, list)}
    if not swept:
        raise ConfigurationError(
            f"sweeps.{name}: must hold a parameter and the list of its values, got {sweep!r}"
        )
    rest = {key: value for key, value in own.items() if key not in swept}
    if action is not None:
        rest[ACTION] = action
    return [
        nested(controller, {**rest, **dict(zip(swept, values, strict=True))})
        for values in itertools.product(*swept.values())
    ]


def check(config: BenchmarkConfig) -> None:
    """Checks what can be checked before anything is run.

    Raises:
        ConfigurationError: A controller does not exist or is named twice, or the Baseline
            strategy or the agent takes no part.
    """
    choices = controller_choices(config)
    if len(choices) < len(config.controllers) + len(config.bundles):
        raise ConfigurationError("controllers, bundles: a name stands there twice")
    for key, name in (("controllers", BASELINE), ("subject", config.subject)):
        if name not in choices:
            raise ConfigurationError(
                f"{key}: {name!r} has to be one of the controllers ({', '.join(choices)})"
            )
    points = [choice for own in front_choices(config).values() for choice in own.values()]
    for choice in [*choices.values(), *points]:
        catalog.build("controller", with_knobs(choice)[0])
    if config.seeds < 2:
        raise ConfigurationError(f"seeds: intervals need at least 2, got {config.seeds}")


@dataclass(frozen=True)
class _Task:
    config: BenchmarkConfig
    name: str
    directory: Path


def run_all(
    config: BenchmarkConfig,
    directory: Path,
    on_progress: Callable[[int, int], None],
    on_reuse: Callable[[list[str]], None],
) -> dict[str, dict[str, list[MetricRow]]]:
    """Runs what has not been run yet and returns all metrics by scenario and controller.

    Args:
        config: Configuration of the benchmark.
        directory: Its folder; what is there of an earlier run is kept.
        on_progress: Called with the scenarios done and all scenarios.
        on_reuse: Called with lines on which runs were there before, and why they are used or not.

    Raises:
        PalsError: Runs failed; the others are kept.
    """
    suite: Suite = catalog.build("suite", config.suite)
    tasks = [_Task(config, name, directory / "runs") for name in suite.scenarios]
    executor: Executor = catalog.build("executor", config.executor)
    results: dict[str, dict[str, list[MetricRow]]] = {}
    failures: list[str] = []
    on_progress(0, len(tasks))
    origins: list[Origin] = []
    for number, (name, runs, failed, found) in enumerate(
        executor.map(_run_scenario, tasks), start=1
    ):
        results[name] = runs
        origins += found
        failures += failed
        on_progress(number, len(tasks))
    on_reuse(reuse_lines(origins))
    if failures:
        raise PalsError("runs failed (the others are kept):\n" + "\n".join(sorted(failures)))
    return {name: results[name] for name in suite.scenarios}


def _run_scenario(
    task: _Task,
) -> tuple[str, dict[str, list[MetricRow]], list[str], list[Origin]]:
    """Runs everyone on a scenario; who fails is named, and the others are run all the same."""
    runs: dict[str, list[MetricRow]] = {}
    failed: dict[str, list[str]] = {}
    config = task.config
    try:
        suite: Suite = catalog.build("suite", config.suite)
        seeds = range(suite.seed, suite.seed + config.seeds)
        scenario = ScenarioRuns(
            config.scenario, config.profile, task.name, suite.scenarios[task.name], seeds,
            task.directory,
        )  # fmt: skip
        points = front_choices(config).values()
        everyone = [controller_choices(config), *points]
    except FAILURES as error:
        return task.name, runs, [f"{task.name}: {describe(error)}"], []
    for name, choice in (item for own in everyone for item in own.items()):
        try:
            runs[name] = scenario.run(name, choice)
        except FAILURES as error:
            failed.setdefault(describe(error), []).append(name)
    told = [f"{task.name}, {', '.join(names)}: {reason}" for reason, names in failed.items()]
    return task.name, runs, told, scenario.origins


def benchmark_facts(config: BenchmarkConfig, suite: Suite) -> list[str]:
    """Returns lines that say what was run."""
    names = ", ".join(f"`{name}`" for name in controller_choices(config))
    minutes = config.duration / 60.0
    facts = [
        f"{len(suite.scenarios)} scenarios, {config.seeds} paired seeds each, "
        f"{minutes:g} simulated minutes per episode, a decision every {config.interval:g} s",
        f"controllers: {names}; all choose from the grid `action="
        f"{str(config.action['_target_']).rpartition('.')[2].lower()}`",
    ]
    for name, choice in controller_choices(config).items():
        node = plain(catalog.load("controller", choice))
        if "bundle" in node:
            bundle = read_bundle(find_bundle(node["bundle"]))
            facts.append(
                f"`{name}`: {bundle.algorithm.rpartition('.')[2]}, "
                f"{bundle.evaluation['steps']:,} decisions, weights "
                f"`{bundle.weights_sha256[:16]}`"
            )
    return facts
