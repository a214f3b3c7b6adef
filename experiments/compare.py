"""Compares controllers: ``python -m experiments.compare controllers=[static,pals] seeds=5``."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from envs import catalog
from envs.cache import atomic_write_text
from experiments.app.application import application
from experiments.app.executors import Executor
from experiments.app.settings import CompareConfig
from experiments.app.terminal import Progress, print_comparison, print_lines
from experiments.comparison.plot import draw_comparison
from experiments.comparison.runner import aggregate, metric_rows, plan, run_all
from experiments.evaluation.metrics import write_json
from experiments.records.provenance import provenance, with_content_hash
from experiments.runs.options import check_times, run_record


@application("compare", CompareConfig)
def main(config: CompareConfig, directory: Path) -> None:
    """Runs all, writes ``comparison.csv``, ``.json`` and ``.png``, and prints a table."""
    import pandas

    check_times(config.scenario, config.seed)
    app = HydraConfig.get()
    search_path = [text for text in app.overrides.hydra if text.startswith("hydra.searchpath")]
    runs = plan(config, directory, str(app.job.config_name), [*app.overrides.task, *search_path])
    executor: Executor = catalog.build("executor", config.executor)
    with Progress() as progress:
        summaries = run_all(
            runs, executor, lambda done, total: progress.update("runs", done, total), print_lines
        )
    rows = metric_rows(summaries)
    record = run_record(config.scenario, config.options(""))
    result = aggregate(rows)
    atomic_write_text(directory / "comparison.csv", pandas.DataFrame(rows).to_csv(index=False))
    draw_comparison(result, directory / "comparison.png")
    known = with_content_hash({**result, "provenance": provenance(record)})
    write_json(directory / "comparison.json", known)
    print_comparison(result, directory)


if __name__ == "__main__":
    main()
