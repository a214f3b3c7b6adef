"""Runs one controller on one environment: ``python -m experiments.run controller=pals``."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from experiments.app.application import application
from experiments.app.dashboard import Dashboard
from experiments.app.settings import RunConfig
from experiments.app.terminal import print_run
from experiments.runs.runner import execute


@application("run", RunConfig)
def main(config: RunConfig, directory: Path) -> None:
    """Runs it, shows its progress and prints the metrics."""
    options = config.options(str(HydraConfig.get().runtime.choices.get("controller", "")))
    with Dashboard() as dashboard:
        summary = execute(config.scenario, options, directory, dashboard.update, dashboard)
    print_run(summary, directory)


if __name__ == "__main__":
    main()
