"""Searches controllers' parameters: ``python -m experiments.tune controllers=[governor,pals]``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from envs.cache import atomic_write_text
from experiments.app.application import application
from experiments.app.terminal import Progress, print_lines
from experiments.evaluation.metrics import write_json
from experiments.records.provenance import provenance
from experiments.runs.options import check_times, run_record
from experiments.tuning.config import TuneConfig
from experiments.tuning.report import (
    choices,
    draw_fronts,
    statistics,
    tuning_record,
    tuning_report,
)
from experiments.tuning.runner import tune_all


@application("tune", TuneConfig)
def main(config: TuneConfig, directory: Path) -> None:
    """Tunes, writes ``tune.md``, ``tune.json``, ``fronts.yaml`` and ``fronts.png``."""
    check_times(config.scenario, config.seed)
    with Progress() as progress:
        found = tune_all(
            config, directory, lambda done, total: progress.update("controllers", done, total)
        )
    known = statistics(found)
    facts = [
        f"each controller has {config.hours:g} simulated hours, its training included; a trial "
        f"takes {config.trial_hours:.2g}",
        f"tuned on {len(config.built_suite('suite').scenarios)} scenarios, {config.seeds} "
        f"seed{'s' * (config.seeds > 1)} of {config.duration:g} s",
    ]
    if config.test:
        facts.append(
            f"evaluated on {len(config.built_suite('test_suite').scenarios)} others, "
            f"{config.test_seeds} seeds of {config.test_duration:g} s"
        )
    atomic_write_text(directory / "tune.md", tuning_report(found, known, facts, tested=config.test))
    atomic_write_text(
        directory / "fronts.yaml",
        OmegaConf.to_yaml(OmegaConf.create(choices(found, config.spaces()))),
    )
    record = run_record(config.scenario, config.options(""))
    write_json(
        directory / "tune.json",
        {"controllers": tuning_record(found, known), "provenance": provenance(record)},
    )
    draw_fronts(found, known, directory / "fronts.png")
    print_lines([f"{name}: {tuned.trials} trials, a front of {len(tuned.front)} points"
                 for name, tuned in found.items()])  # fmt: skip
    print_lines([f"Files: {directory}"])


if __name__ == "__main__":
    main()
