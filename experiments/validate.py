"""Compares the simulator with measured data: ``python -m experiments.validate data=DIR``."""

from __future__ import annotations

from pathlib import Path

from experiments.app.application import application
from experiments.calibration.config import ValidateConfig, data_folders
from experiments.calibration.reports.plots import draw_all
from experiments.calibration.reports.tables import signed_block, write_validation
from experiments.calibration.reports.terminal import print_stage, print_validation
from experiments.calibration.reports.time_plots import draw_time_series
from experiments.calibration.validation.validate import validate
from experiments.reporting.docs_page import fill


@application("validate", ValidateConfig)
def main(config: ValidateConfig, directory: Path) -> None:
    """Writes ``validation.json``, tables and plots into the folder, and a block of ``page``."""
    folder, *further = data_folders(config.data)
    validation = validate(
        folder,
        further=further,
        held_out=config.held_out,
        processes=config.processes,
        ablations=config.ablations,
        on_stage=print_stage,
    )
    errors = write_validation(validation, directory)
    plots = draw_all(validation.evaluated, directory)
    plots += draw_time_series(validation.played, directory)
    written = [directory / "validation.json", *plots]
    if config.page != "none":
        fill(Path(config.page), {"simulator": signed_block(validation)})
        written.append(Path(config.page))
    print_validation(errors, validation.skipped, written)


if __name__ == "__main__":
    main()
