"""Teaches an agent by planning on forks of its servers: ``python -m experiments.imitate``."""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from experiments.app.application import application
from experiments.app.terminal import Progress
from experiments.imitation.config import ImitateConfig
from experiments.imitation.school import School
from experiments.training.report import print_training
from experiments.training.resumed import refuse_used, resumed_config


@application("imitate", ImitateConfig)
def main(config: ImitateConfig, directory: Path) -> None:
    """Teaches, shows progress and prints how the agent does on the held-out scenarios."""
    config = resumed_config(config, list(HydraConfig.get().overrides.task))
    refuse_used(config, directory)
    with Progress() as progress:
        progress.update("building servers", 0, 1)
        school = School(config, directory)
        progress.update("building servers", 1, 1)
        evaluation = school.run(progress.update)
    print_training(evaluation, directory)


if __name__ == "__main__":
    main()
