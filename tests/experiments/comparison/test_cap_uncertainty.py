"""A comparison over the unknown response to caps: where it is run, and what it concludes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs import catalog
from envs.errors import ConfigurationError
from envs.scenario import Scenario
from experiments.comparison.cap_uncertainty import (
    RESPONSE,
    evaluated,
    interval_tables,
    points,
    spread,
)
from experiments.comparison.runner import PlannedRun
from experiments.runs.options import RunOptions


def summary(controller: str, seed: int, tokens_per_joule: float) -> dict[str, Any]:
    return {
        "controller": controller,
        "seed": seed,
        "tokens_per_joule": tokens_per_joule,
        "qos_violation_rate": 0.1 * seed,
    }


def test_points_fill_the_ranges_of_the_response_to_caps() -> None:
    gpu = catalog.build("gpu", "a100_sxm4_80gb")
    ranges = catalog.build("calibration", gpu.calibration).ranges
    nominal, *drawn = points(gpu, 8, seed=3)
    assert nominal.coefficients == {}
    assert [p.coefficients for p in drawn] == [p.coefficients for p in points(gpu, 8, seed=3)[1:]]
    for name in RESPONSE:
        low, high = ranges[name]
        places = np.array([(p.coefficients[name] - low) / (high - low) for p in drawn])
        assert sorted((8 * places).astype(int)) == list(range(8)), f"{name}: one in every eighth"


def test_a_gpu_whose_response_was_measured_leaves_nothing_open() -> None:
    with pytest.raises(ConfigurationError, match="was measured"):
        points(catalog.build("gpu", "rtx_pro_6000"), 3, seed=0)


def test_every_run_is_made_at_every_point_in_a_folder_of_its_own() -> None:
    gpu = catalog.build("gpu", "a100_sxm4_80gb")
    runs = [
        PlannedRun(Scenario(), RunOptions(seed=seed), Path("out/runs/static") / f"seed_{seed}")
        for seed in (0, 1)
    ]
    chosen = points(gpu, 2, seed=0)
    made = spread(runs, chosen, gpu, Path("out"))
    assert len(made) == 6
    assert len({run.directory for run in made}) == 6
    assert made[0].scenario.calibration == {"base": gpu.calibration}
    assert made[2].scenario.calibration == {"base": gpu.calibration, **chosen[1].coefficients}


def test_a_conclusion_survives_only_if_it_holds_at_every_point() -> None:
    gpu = catalog.build("gpu", "a100_sxm4_80gb")
    chosen = points(gpu, 2, seed=0)
    gains = {"pals": (1.2, 1.1, 1.3), "governor": (1.1, 1.15, 0.9)}
    summaries = []
    for index in range(3):
        for seed in (0, 1):
            summaries.append(summary("static", seed, 5.0))
            summaries += [summary(name, seed, 5.0 * gains[name][index]) for name in gains]
    result = evaluated(chosen, 6, summaries)
    assert result["intervals"]["pals"]["tokens_per_joule_relative"] == pytest.approx(
        {"nominal": 1.2, "lowest": 1.1, "highest": 1.3}
    )
    verdicts = {(c["better"], c["worse"]): c["survives"] for c in result["conclusions"]}
    assert verdicts == {
        ("pals", "static"): True, ("governor", "static"): False, ("pals", "governor"): False,
    }  # fmt: skip
    tables = interval_tables(result)
    assert "1.200 [1.100, 1.300]" in tables
    assert "2 of 3" in tables
