"""The standing comparison of controllers: ``python -m experiments.benchmark``."""

from __future__ import annotations

from pathlib import Path

from envs import catalog
from envs.cache import atomic_write_text
from experiments.app.application import application
from experiments.app.terminal import Progress, print_lines
from experiments.benchmarking.criteria import PALS, degeneracies, goals
from experiments.benchmarking.front_goals import front_goals
from experiments.benchmarking.fronts import (
    ASKED,
    CLAIRVOYANT,
    LIMITS,
    PLANNER,
    fronts_of,
    kept_scenarios,
)
from experiments.benchmarking.metrics import Results
from experiments.benchmarking.plot import draw_overall, draw_scenarios
from experiments.benchmarking.report import FRONTS_PLOT, OVERALL_PLOT, SCENARIOS_PLOT, report
from experiments.benchmarking.runner import (
    BenchmarkConfig,
    benchmark_facts,
    check,
    controller_choices,
    front_choices,
    run_all,
)
from experiments.evaluation.metrics import write_json
from experiments.evaluation.suites import Suite
from experiments.records.made_files import note_made
from experiments.reporting.front_plot import draw_comparison
from experiments.runs.options import check_times

REPORT_FILE = "results.md"
RESULTS_FILE = "results.json"
PLOTS = "images"


@application("benchmark", BenchmarkConfig)
def main(config: BenchmarkConfig, directory: Path) -> None:
    """Runs what is missing, writes ``results.md``, ``results.json`` and the plots."""
    check_times(config.scenario, config.seed)
    check(config)
    suite: Suite = catalog.build("suite", config.suite)
    with Progress() as progress:
        results = run_all(
            config,
            directory,
            lambda done, total: progress.update("scenarios", done, total),
            print_lines,
        )
    write_json(directory / RESULTS_FILE, results)
    write_report(config, suite, results, directory)
    note_made(directory, (RESULTS_FILE, REPORT_FILE))
    if config.report is not None:
        write_report(config, suite, results, Path(config.report))


def write_report(config: BenchmarkConfig, suite: Suite, results: Results, folder: Path) -> None:
    """Writes the report and its plots into a folder."""
    controllers = list(controller_choices(config))
    points = {name: list(own) for name, own in front_choices(config).items()}
    fronts = fronts_of(results, points)
    if fronts:
        lines = {name: (own.episodes, own.statistics) for name, own in fronts.items()}
        draw_comparison(
            lines, config.subject, PLANNER, CLAIRVOYANT, PALS, LIMITS[ASKED],
            folder / PLOTS / FRONTS_PLOT,
        )  # fmt: skip
    kept = kept_scenarios(results)
    draw_overall(kept, controllers, folder / PLOTS / OVERALL_PLOT)
    draw_scenarios(results, controllers, folder / PLOTS / SCENARIOS_PLOT)
    text = report(
        results,
        suite.scenarios,
        subject=config.subject,
        fronts=fronts,
        points=points,
        goals=[
            *front_goals(fronts, config.subject),
            *goals(kept, suite.scenarios, config.subject, config.restricted),
        ],
        degeneracies=degeneracies(results, config.subject),
        facts=benchmark_facts(config, suite),
        plots=f"{PLOTS}/",
    )
    atomic_write_text(folder / REPORT_FILE, text)


if __name__ == "__main__":
    main()
