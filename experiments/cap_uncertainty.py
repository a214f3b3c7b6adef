"""Runs a comparison over the ranges of a GPU's unknown response to power caps.

``python -m experiments.cap_uncertainty controllers=[static,pals] seeds=3 points=6``
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from rich.console import Console

from envs import catalog
from envs.cache import atomic_write_text
from envs.quantities import Seeds
from envs.simulator.gpus import GPUSpec
from experiments.app.application import application
from experiments.app.executors import Executor
from experiments.app.settings import CompareConfig
from experiments.app.terminal import Progress, print_lines
from experiments.comparison.cap_uncertainty import evaluated, interval_tables, points, spread
from experiments.comparison.runner import plan, run_all
from experiments.evaluation.metrics import write_json
from experiments.records.provenance import provenance
from experiments.reporting.docs_page import fill
from experiments.runs.options import check_times, run_record


@dataclass(kw_only=True)
class CapUncertaintyConfig(CompareConfig):
    """What is compared, and at how many points (``conf/cap_uncertainty.yaml``).

    Attributes:
        points: Points of the ranges besides the nominal one.
        page: Markdown file whose block ``cap_uncertainty`` is replaced; ``none`` for no file.
    """

    points: Seeds = 8
    page: str = "none"


@application("cap_uncertainty", CapUncertaintyConfig)
def main(config: CapUncertaintyConfig, directory: Path) -> None:
    """Runs all, writes ``cap_uncertainty.json`` and ``.md``, and prints the tables."""
    check_times(config.scenario, config.seed)
    app = HydraConfig.get()
    search_path = [text for text in app.overrides.hydra if text.startswith("hydra.searchpath")]
    gpu: GPUSpec = catalog.build("gpu", config.gpu)
    chosen = points(gpu, config.points, config.seed)
    runs = plan(config, directory, str(app.job.config_name), [*app.overrides.task, *search_path])
    executor: Executor = catalog.build("executor", config.executor)
    with Progress() as progress:
        summaries = run_all(
            spread(runs, chosen, gpu, directory),
            executor,
            lambda done, total: progress.update("runs", done, total),
            print_lines,
        )
    result = evaluated(chosen, len(runs), summaries)
    record = run_record(config.scenario, config.options(""))
    write_json(directory / "cap_uncertainty.json", {**result, "provenance": provenance(record)})
    tables = interval_tables(result)
    atomic_write_text(directory / "cap_uncertainty.md", tables + "\n")
    if config.page != "none":
        fill(Path(config.page), {"cap_uncertainty": tables})
    Console(markup=False).print(tables, soft_wrap=True)


if __name__ == "__main__":
    main()
