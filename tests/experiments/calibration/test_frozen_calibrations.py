"""The installed calibrations are what the command fits to the published data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from envs import catalog
from experiments.calibration.config import CalibrateConfig
from experiments.calibration.fitting.pipeline import calibrate
from experiments.calibration.fitting.store import as_yaml

GPUS = ("h100_sxm", "a100_sxm4_80gb", "a100_sxm4_40gb", "b200", "rtx_pro_6000")
OWN = Path(__file__).resolve().parents[3] / "docs" / "measurements" / "h100"


@pytest.mark.parametrize("gpu", GPUS)
def test_a_fit_to_the_published_data_gives_the_installed_coefficients(
    gpu: str, data_dir: Path
) -> None:
    """Agents are trained and results are made with these numbers, so they must not drift."""
    spec = catalog.build("gpu", gpu)
    folders = os.pathsep.join(map(str, (data_dir, OWN)))
    fitted, _, _ = calibrate(CalibrateConfig(data=folders, gpu=spec))
    again = yaml.safe_load(as_yaml(fitted, spec))
    file = catalog.CONF_DIR / "calibration" / f"{spec.calibration}.yaml"
    installed = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(installed, dict)
    assert again.keys() == installed.keys()
    assert again["fitted_rows"].split() == installed["fitted_rows"].split()
    for key, value in installed.items():
        if isinstance(value, float):  # least squares stops within its tolerance, not at a bit
            assert again[key] == pytest.approx(value, rel=5e-3), key
