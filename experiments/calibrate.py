"""Fits a GPU type's coefficients: ``python -m experiments.calibrate gpu=h100_sxm data=DIR``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from envs import catalog
from experiments.app.application import application
from experiments.calibration.config import CalibrateConfig
from experiments.calibration.fitting.pipeline import calibrate
from experiments.calibration.fitting.store import write
from experiments.calibration.reports.terminal import print_calibration


@application("calibrate", CalibrateConfig)
def main(config: CalibrateConfig, directory: Path) -> None:
    """Fits, writes the calibration into the folder and, with ``install=true``, installs it."""
    gpu = catalog.build("gpu", config.gpu)
    calibration, rows, skipped = calibrate(replace(config, gpu=gpu))
    written = [write(calibration, gpu, directory)]
    if config.install:
        written.append(write(calibration, gpu, catalog.CONF_DIR / "calibration"))
    print_calibration(calibration, rows, skipped, written)


if __name__ == "__main__":
    main()
