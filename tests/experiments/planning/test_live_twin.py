"""A live server's twin: its counterpart, calibrated by its profile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines.profile import Profile, ProfileRow
from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import simulated_env
from envs.scenario import Scenario
from envs.simulator.models import ModelSpec
from experiments.profiling.store import write_profile
from experiments.profiling.sweep import ProfileConfig
from experiments.runs.options import RunOptions
from experiments.runs.preparation import RunPreparation
from experiments.sim_to_live.counterpart import counterpart

MODEL = ModelSpec(
    name="tiny", layers=4, hidden=320, heads=4, kv_heads=4, head_dim=80, vocab=1024,
    experts=8, top_k=2, expert_intermediate=256, moe_layers=4, max_model_len=4096,
)  # fmt: skip
CAPS = [150.0, 250.0, 400.0]
LIVE = Scenario(
    model=MODEL,
    gpu=None,
    server={
        "base": "vllm_cpu",
        "launch": {"model": "somewhere", "python": sys.executable},
        "power_caps_w": CAPS,
    },
    workload={"base": "poisson_gsm8k", "rate": 2.0},
)


def rows() -> list[ProfileRow]:
    """A server whose speed follows the cap, and whose batch pays."""
    return [
        ProfileRow(
            cap, seqs, 1, 1, 1, 2.0 * seqs * cap / (8.0 + seqs), 5.0 * cap, cap, 0.02, 0.1,
            float(seqs), 120.0, 2000.0,
        )
        for cap in CAPS
        for seqs in (2, 8, 32)
    ]  # fmt: skip


def preparation(tmp_path: Path) -> RunPreparation:
    write_profile(Profile(tuple(rows()), 1, 1, 1, "made"), tmp_path)
    options = RunOptions(profile=ProfileConfig(path=str(tmp_path / "profile.json")))
    return RunPreparation(LIVE, options, None)


def test_the_twin_of_a_live_server_is_calibrated_by_its_profile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    spec = preparation(tmp_path).twin()
    assert spec.server.max_num_seqs == 32
    assert spec.gpu.power_caps_w == CAPS
    assert spec.coefficients.fitted_on == "a live profile"
    assert spec.coefficients.fit_error["throughput"] < 0.3
    assert spec.workload.mean_output_tokens > 50
    assert f"model={spec.model.name}" in caplog.text


def test_without_a_profile_it_says_how_to_make_one() -> None:
    with pytest.raises(ConfigurationError, match=r"experiments\.profile"):
        RunPreparation(LIVE, RunOptions(), None).twin()


def test_which_model_is_served_has_to_be_known() -> None:
    fit, simulated = counterpart(LIVE, Profile(tuple(rows()), 1, 1, 1, "made"))
    assert simulated.is_simulated
    assert fit.rows == 9
    unknown = Scenario(model=None, gpu=None, server={"base": "vllm", "url": "http://127.0.0.1:1"})
    with pytest.raises(ConfigurationError, match="model"):
        counterpart(unknown, Profile(tuple(rows()), 1, 1, 1, "made"))


def test_the_twin_controls_the_counterpart(tmp_path: Path) -> None:
    """What it is bound to is a live server's context: caps and capacity of another scale."""
    _, simulated = counterpart(LIVE, Profile(tuple(rows()), 1, 1, 1, "made"))
    env = simulated_env(simulated)
    search = {"candidates": 12, "generations": 1}
    controller: Any = catalog.build("controller", {"base": "mpc", "search": search, "samples": 2})
    controller.bind(env.context)
    controller.prepare(preparation(tmp_path))
    observation, _ = env.reset(seed=1)
    state, caps = None, set()
    for interval in range(30):
        action, state = controller.predict(observation, state, np.array([interval == 0]))
        observation, _, _, _, info = env.step(action)
        caps.add(info["knobs"].power_cap_w)
    assert caps <= set(CAPS)
    assert controller.report(state)["decisions"] == 15
