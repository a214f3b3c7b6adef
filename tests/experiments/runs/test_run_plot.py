"""The picture of a run."""

from __future__ import annotations

import warnings
from pathlib import Path

from envs.scenario import Scenario
from experiments.runs.options import RunOptions
from experiments.runs.runner import execute


def test_a_run_without_a_single_token_is_drawn_without_a_warning(tmp_path: Path) -> None:
    scenario = Scenario.of(
        model="gpt2",
        gpu="a100_sxm4_80gb",
        workload={"base": "poisson_gsm8k", "load": None, "rate": 1e-6},
        duration_s=2.0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        execute(scenario, RunOptions(controller="static"), tmp_path)
    assert (tmp_path / "run.png").stat().st_size > 0
