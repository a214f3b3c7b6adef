"""The standing comparison of controllers: ``python -m experiments.benchmark``."""

from __future__ import annotations

from pathlib import Path

from envs import catalog
from envs.cache import atomic_write_text
from experiments.app.application import application
from experiments.app.terminal import Progress
from experiments.benchmarking.criteria import degeneracies, goals
from experiments.benchmarking.metrics import Results
from experiments.benchmarking.plot import draw_overall, draw_scenarios
from experiments.benchmarking.report import OVERALL_PLOT, SCENARIOS_PLOT, report
from experiments.benchmarking.runner import (
    BenchmarkConfig,
    benchmark_facts,
    check,
    controller_choices,
    run_all,
)
from experiments.evaluation.metrics import write_json
from experiments.evaluation.suites import Suite
from experiments.runs.options import check_times

REPORT_FILE = "results.md"
PLOTS = "images"


@application("benchmark", BenchmarkConfig)
def main(config: BenchmarkConfig, directory: Path) -> None:
    """Runs what is missing, writes ``results.md``, ``results.json`` and the plots."""
    check_times(config.scenario, config.seed)
    check(config)
    suite: Suite = catalog.build("suite", config.suite)
    with Progress() as progress:
        results = run_all(
            config, directory, lambda done, total: progress.update("scenarios", done, total)
        )
    write_json(directory / "results.json", results)
    write_report(config, suite, results, directory)
    if config.report is not None:
        write_report(config, suite, results, Path(config.report))


def write_report(config: BenchmarkConfig, suite: Suite, results: Results, folder: Path) -> None:
    """Writes the report and its plots into a folder."""
    controllers = list(controller_choices(config))
    draw_overall(results, controllers, folder / PLOTS / OVERALL_PLOT)
    draw_scenarios(results, controllers, folder / PLOTS / SCENARIOS_PLOT)
    text = report(
        results,
        suite.scenarios,
        subject=config.subject,
        goals=goals(results, suite.scenarios, config.subject, config.restricted),
        degeneracies=degeneracies(results, config.subject),
        facts=benchmark_facts(config, suite),
        plots=f"{PLOTS}/",
    )
    atomic_write_text(folder / REPORT_FILE, text)


if __name__ == "__main__":
    main()
