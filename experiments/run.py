"""Runs one controller on one environment: ``python -m experiments.run controller=pals``."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments.app.application import application
from experiments.app.terminal import Progress, print_run
from experiments.runs.runner import execute


@application("run")
def main(config: DictConfig, directory: Path) -> None:
    """Runs it, shows its progress and prints the figures."""
    controller = HydraConfig.get().runtime.choices["controller"]
    with Progress() as progress:
        summary = execute(config, directory, controller, progress.update)
    print_run(summary, directory)


if __name__ == "__main__":
    main()
