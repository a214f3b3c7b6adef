"""A calibration's hash follows what a simulation depends on, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envs import catalog
from envs.simulator.calibration import Calibration, calibration_hash


@pytest.fixture
def fitted() -> Calibration:
    return catalog.build("calibration", "a100_sxm4_80gb")


def test_it_follows_coefficients_and_their_uncertainty(fitted: Calibration) -> None:
    others = [
        replace(fitted, layer_s=1.01 * fitted.layer_s),
        replace(fitted, uncertainty={}),
        replace(fitted, ranges={"overlap": [0.1, 0.2]}),
    ]
    assert len({calibration_hash(one) for one in [fitted, *others]}) == 4


def test_it_follows_what_other_versions_of_the_engine_change(fitted: Calibration) -> None:
    """``server.engine_version`` takes its host times from there."""
    (version, changed), *_ = fitted.engines.items()
    slower = {**changed, "mixed_step_s": 2.0 * changed["mixed_step_s"]}
    others = [
        replace(fitted, engines={}),
        replace(fitted, engines={version: slower}),
        replace(fitted, engines={"vllm-0.99": dict(changed)}),
    ]
    assert len({calibration_hash(one) for one in [fitted, *others]}) == 4


def test_it_does_not_follow_names_or_how_a_number_is_written(fitted: Calibration) -> None:
    renamed = replace(fitted, name="other", fitted_on="elsewhere", fit_error={"tpot": 1.0})
    assert calibration_hash(renamed) == calibration_hash(fitted)
    assert calibration_hash(replace(fitted, step_s=0)) == calibration_hash(
        replace(fitted, step_s=0.0)
    )
