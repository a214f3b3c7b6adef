"""Says what would be simulated: ``python -m experiments.describe model=/path/to/config.json``."""

from __future__ import annotations

from pathlib import Path

from experiments.app.application import application
from experiments.app.settings import RunConfig
from experiments.app.terminal import print_description
from experiments.evaluation.metrics import write_json
from experiments.records.description import DESCRIPTION_FILE, describe_choice


@application("describe", RunConfig)
def main(config: RunConfig, directory: Path) -> None:
    """Prints the model, its memory and its capacity, and writes them into the folder."""
    description = describe_choice(config.scenario)
    write_json(directory / DESCRIPTION_FILE, description)
    print_description(description, directory)


if __name__ == "__main__":
    main()
