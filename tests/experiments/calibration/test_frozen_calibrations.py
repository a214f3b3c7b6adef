"""The installed calibrations are what the command fits to the published data."""

from __future__ import annotations

import pytest
import yaml
from omegaconf import OmegaConf

from envs import catalog
from envs.errors import ConfigurationError
from experiments.calibration.config import CalibrateConfig, data_folder
from experiments.calibration.fitting.pipeline import calibrate
from experiments.calibration.fitting.store import as_yaml

GPUS = ("h100_sxm", "a100_sxm4_40gb", "b200", "rtx_pro_6000")


@pytest.fixture(scope="module")
def data() -> str:
    try:
        return str(data_folder(None))
    except ConfigurationError as error:
        pytest.skip(f"needs the measured data: {error}")


@pytest.mark.parametrize("gpu", GPUS)
def test_a_fit_to_the_published_data_gives_the_installed_coefficients(gpu: str, data: str) -> None:
    """Agents are trained and results are made on these numbers, so they do not drift."""
    spec = catalog.build("gpu", gpu)
    fitted, _, _ = calibrate(CalibrateConfig(data=data, gpu=spec))
    anew = yaml.safe_load(as_yaml(fitted, spec))
    file = catalog.CONF_DIR / "calibration" / f"{spec.calibration}.yaml"
    installed = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(installed, dict)
    assert anew.keys() == installed.keys()
    assert anew["fitted_rows"].split() == installed["fitted_rows"].split()
    for key, value in installed.items():
        if isinstance(value, float):  # least squares stops within its tolerance, not at a bit
            assert anew[key] == pytest.approx(value, rel=5e-3), key
