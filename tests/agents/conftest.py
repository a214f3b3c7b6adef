"""A small bundle and a small server, so that nothing here waits for a training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from stable_baselines3 import PPO

from agents.bundle import calibration_hashes, policy_facts, save_bundle
from agents.bundle_facts import Bundle
from agents.compatibility import describe_grid, describe_observation
from agents.recipe import Recipe
from agents.vec_env import ServingVecEnv, make_vec_env
from envs.factory import make_simulated
from envs.serving import ServingEnv

RECIPE = Recipe(
    arguments={"policy": "MlpPolicy", "n_steps": 8, "batch_size": 16,
               "policy_kwargs": {"net_arch": [8]}},
)  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path_factory.getbasetemp() / "agents-cache"))


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def server() -> ServingEnv:
    """A simulated server with the default knobs."""
    return make_simulated(duration_s=60.0)


@pytest.fixture
def servers() -> ServingVecEnv:
    """Four of them for Stable-Baselines3."""
    return make_vec_env(4, seed=0, max_episode_steps=80, duration_s=40.0)


@pytest.fixture
def model(servers: ServingVecEnv) -> PPO:
    """An untrained agent for them."""
    made = RECIPE.make(servers, seed=1, device="cpu")
    assert isinstance(made, PPO)
    return made


@pytest.fixture
def bundle(model: PPO, server: ServingEnv, tmp_path: Path) -> Path:
    """That agent's bundle."""
    folder = tmp_path / "bundle"
    context = server.context
    facts = Bundle(
        **policy_facts(RECIPE, model),
        observation=describe_observation(context.layout),
        action={"_target_": "envs.actions.grid.Grid"},
        grid=describe_grid(context.grid),
        calibrations=calibration_hashes(["a100_sxm4_80gb"]),
        configuration={"seed": 1},
        evaluation={"steps": 0},
        provenance={"version": "0"},
    )
    save_bundle(folder, facts, model.policy)
    return folder
