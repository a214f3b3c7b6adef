"""Runs of some controllers on a suite, where what is believed of a server may be wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from envs import catalog
from envs.cache import atomic_write_text
from envs.errors import PalsError
from envs.quantities import Seeds
from envs.scenario import Scenario
from experiments.app.errors import describe
from experiments.app.executors import Executor
from experiments.app.settings import RunConfig
from experiments.app.terminal import Progress
from experiments.benchmarking.metrics import BASELINE, MetricRow, value
from experiments.benchmarking.scenario_runs import ScenarioRuns
from experiments.evaluation.metric_table import (
    CHANGES_PER_MINUTE,
    METRICS,
    TOKENS_PER_JOULE_RELATIVE,
    WITHIN_BUDGET,
)
from experiments.evaluation.metrics import write_json
from experiments.evaluation.statistics import known_mean
from experiments.evaluation.suites import EPISODES_OF_SUITE, NO_EFFECT, Suite, SuiteScenario
from experiments.records.provenance import provenance
from experiments.reporting.docs_page import fill
from experiments.reporting.numbers import ABSENT
from experiments.runs.interruption import FAILURES
from experiments.runs.options import check_times, run_record

DECISION_TIMES = ("decision_p50_s", "decision_p99_s")
AVERAGED = (
    TOKENS_PER_JOULE_RELATIVE, CHANGES_PER_MINUTE, "qos_violation_rate", WITHIN_BUDGET,
    "slo_violation_rate", "budget_overshoot_rate", "ttft_p99_s", *DECISION_TIMES,
)  # fmt: skip
Believe = Callable[[Scenario], Scenario]
Change = Callable[[SuiteScenario], SuiteScenario]
Row = dict[str, Any]


@dataclass(kw_only=True)
class StudyConfig(RunConfig):
    """What all studies have in common.

    Attributes:
        suite: The scenarios.
        seeds: Episodes per scenario.
        executor: How scenarios are spread over processes.
        page: Markdown file whose block of the study's name is replaced; ``none`` for no file.
    """

    no_effect: ClassVar[Mapping[str, str]] = NO_EFFECT | EPISODES_OF_SUITE

    suite: Any = None
    seeds: Seeds = 2
    executor: Any = None
    page: str = "none"


@dataclass(frozen=True)
class Entry:
    """One line of a study.

    Attributes:
        label: Its name.
        controller: Who controls.
        believe: What the operator believes the scenario to be; profiles and twins are made from
            that. ``None``: what it is.
        change: Makes of the suite's scenario the one that is controlled. ``None``: it is that one.
        facts: Numbers and words that the line has besides its metrics.
    """

    label: str
    controller: Any
    believe: Believe | None = None
    change: Change | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def recorded_study(
    config: StudyConfig,
    entries: Sequence[Entry],
    directory: Path,
    name: str,
    report: Callable[[Sequence[Row]], str],
) -> list[Row]:
    """Runs a study under a progress bar; writes ``<name>.json``, ``<name>.md`` and the page.

    Args:
        config: Scenarios, seeds and what they share.
        entries: The lines.
        directory: The study's folder.
        name: What the files are called.
        report: Makes Markdown of the rows.
    """
    check_times(config.scenario, config.seed)
    with Progress() as progress:
        rows = run_study(
            config, entries, directory,
            lambda done, total: progress.update("scenarios", done, total),
        )  # fmt: skip
    record = run_record(config.scenario, config.options(""))
    write_json(directory / f"{name}.json", {"rows": rows, "provenance": provenance(record)})
    text = report(rows)
    atomic_write_text(directory / f"{name}.md", text)
    if config.page != "none":
        fill(Path(config.page), {name: f"{study_facts(config)}\n\n{text.rstrip()}"})
    return rows


def study_facts(config: StudyConfig) -> str:
    """Returns what a study was run on, as a sentence."""
    suite: Suite = catalog.build("suite", config.suite)
    return (
        f"Means over {', '.join(f'`{name}`' for name in suite.scenarios)}; {config.seeds} "
        f"episode{'s' * (config.seeds > 1)} of {config.duration:g} s each, from seed {suite.seed}."
    )


def run_study(
    config: StudyConfig,
    entries: Sequence[Entry],
    directory: Path,
    on_progress: Callable[[int, int], None],
) -> list[Row]:
    """Runs all entries on all scenarios; what is there of an earlier run is kept.

    Args:
        config: Scenarios, seeds and what they share.
        entries: The lines.
        directory: The study's folder.
        on_progress: Called with the scenarios done and all scenarios.

    Returns:
        A row per entry and scenario: means over the episodes, and the tokens per joule
        relative to Baseline on the same ones.

    Raises:
        PalsError: Runs failed; the others are kept.
    """
    suite: Suite = catalog.build("suite", config.suite)
    executor: Executor = catalog.build("executor", config.executor)
    names = list(suite.scenarios)
    on_progress(0, len(names))
    found: dict[str, list[Row]] = {}
    failures: list[str] = []
    job = partial(_scenario, config, entries, directory)
    for number, (name, rows, failure) in enumerate(executor.map(job, names), start=1):
        found[name] = rows
        if failure is not None:
            failures.append(f"{name}: {failure}")
        on_progress(number, len(names))
    if failures:
        raise PalsError("scenarios failed (the others are kept):\n" + "\n".join(sorted(failures)))
    return [row for name in names for row in found[name]]


def _scenario(
    config: StudyConfig, entries: Sequence[Entry], directory: Path, name: str
) -> tuple[str, list[Row], str | None]:
    rows: list[Row] = []
    try:
        suite: Suite = catalog.build("suite", config.suite)
        seeds = range(suite.seed, suite.seed + config.seeds)

        def runs(entry: Entry, folder: str) -> ScenarioRuns:
            chosen = suite.scenarios[name]
            return ScenarioRuns(
                config.scenario, config.profile, name,
                chosen if entry.change is None else entry.change(chosen),
                seeds, directory / "runs" / folder, entry.believe,
            )  # fmt: skip

        base = runs(Entry(BASELINE, BASELINE), "right").run(BASELINE, BASELINE)
        for entry in entries:
            as_it_is = entry.believe is None and entry.change is None
            folder = "right" if as_it_is else entry.label
            own = runs(entry, folder)
            # Another server has another Baseline.
            beside = base if entry.change is None else own.run(BASELINE, BASELINE)
            means = _means(own.run(entry.label, entry.controller), beside)
            rows.append({"scenario": name, "label": entry.label, **entry.facts, **means})
    except FAILURES as error:
        return name, rows, describe(error)
    return name, rows, None


def _means(rows: Sequence[MetricRow], base: Sequence[MetricRow]) -> Row:
    """Returns means over episodes; ``None`` for what applies in none."""
    pairs = list(zip(rows, base, strict=True))
    return {
        key: known_mean(value(own, reference, key) for own, reference in pairs) for key in AVERAGED
    }


def over_scenarios(rows: Sequence[Row], label: str, key: str) -> float | None:
    """Returns a metric's mean over the scenarios in which it applies."""
    return known_mean(row[key] for row in rows if row["label"] == label)


def reached(rows: Sequence[Row], label: str) -> tuple[float | None, float | None]:
    """Returns a line's efficiency and its violations within the budget, over the scenarios."""
    return (
        over_scenarios(rows, label, TOKENS_PER_JOULE_RELATIVE),
        over_scenarios(rows, label, WITHIN_BUDGET),
    )


def reached_text(rows: Sequence[Row], label: str) -> str:
    """Returns a cell that tells what a line reached: ``1.234, 0.5 %``."""
    efficiency, violations = reached(rows, label)
    if efficiency is None or violations is None:
        return ABSENT
    return f"{efficiency:.3f}, {100 * violations:.1f} %"


def metric_texts(rows: Sequence[Row], label: str, keys: Sequence[str]) -> list[str]:
    """Returns a cell for each of some metrics of a line, over the scenarios."""
    return [METRICS[key].text(over_scenarios(rows, label, key)) for key in keys]
