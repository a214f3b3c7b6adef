"""Trains an agent on the simulator: ``python -m experiments.train agent=ppo``."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from experiments.app.application import application
from experiments.app.terminal import Progress
from experiments.training.report import print_training
from experiments.training.resumed import refuse_used, resumed_config
from experiments.training.trainer import TrainConfig, Training


@application("train", TrainConfig)
def main(config: TrainConfig, directory: Path) -> None:
    """Trains, shows progress and prints how the agent does on the held-out scenarios."""
    config = resumed_config(config, list(HydraConfig.get().overrides.task))
    refuse_used(config, directory)
    with Progress() as progress:
        progress.update("building servers", 0, 1)
        training = Training(config, directory)
        progress.update("building servers", 1, 1)
        evaluation = training.run(progress.update)
    print_training(evaluation, directory)


if __name__ == "__main__":
    main()
