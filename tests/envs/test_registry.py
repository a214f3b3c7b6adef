"""Every registered environment passes the checkers of Gymnasium and Stable-Baselines3."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import envs  # noqa: F401 - registers the environments
from envs import catalog
from envs.suite_ids import environment_id, suite_parts

SINGLE = "pals/Simulated-v0"
OUTSIDE = {"pals/VLLM-v0": "needs a vLLM server"}
"""Environments that act on something outside this process."""


def registered() -> list[str]:
    return sorted(name for name in gymnasium.registry if name.startswith("pals/"))


ENCODINGS = [
    {"base": name, "sm_clock": sm_clock}
    for name in catalog.names("action")
    for sm_clock in (False, True)
]


def label(action: dict[str, Any]) -> str:
    return f"{action['base']}{'+clock' if action['sm_clock'] else ''}"


NAMED = {environment_id(name): parts for name, parts in suite_parts().items()}
"""Scenarios of the standing comparison; their spaces are those of the plain environment."""


@pytest.fixture(params=sorted(set(registered()) - set(NAMED)))
def env_id(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name in OUTSIDE:
        pytest.skip(OUTSIDE[name])
    return name


def test_the_simulated_environment_is_registered() -> None:
    assert SINGLE in registered()


@pytest.mark.parametrize("action", ENCODINGS, ids=label)
def test_the_checkers_find_nothing_to_warn_of(env_id: str, action: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(env_id, action=action)
        check_env(env.unwrapped)
        check_env_sb3(env)
        env.close()


@pytest.mark.parametrize("name", NAMED)
def test_the_scenarios_of_the_standing_comparison_have_ids(
    name: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if "azure" in str(NAMED[name]["workload"]):
        monkeypatch.setenv("PALS_DATA", str(request.getfixturevalue("data_dir")))
    scenarios = catalog.build("suite", "test").scenarios
    (of_suite,) = [parts for key, parts in scenarios.items() if environment_id(key) == name]
    made = gymnasium.make(name)
    assert made.spec is not None
    assert made.spec.max_episode_steps == 1200
    env = of_suite.make(action="grid", reward="default", interval_s=0.5, duration_s=600.0)
    for each in (made, env):
        each.reset(seed=1)
    for _ in range(5):
        ours, theirs = made.step(np.array([3, 4])), env.step(np.array([3, 4]))
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1] == theirs[1]


def test_parts_of_a_named_scenario_can_be_changed() -> None:
    env: Any = gymnasium.make("pals/Bursty60-v0", model="olmoe_1b_7b", action="joint").unwrapped
    assert env.system.server_spec.model.name == "olmoe_1b_7b"
    assert type(env.system.server_spec.workload).__name__ == "Bursty"


@pytest.mark.parametrize("action", ENCODINGS, ids=label)
def test_the_clock_is_an_axis_of_its_own_and_off_by_default(
    action: dict[str, Any],
) -> None:
    env = gymnasium.make(SINGLE, action=action).unwrapped
    env.reset(seed=0)
    env.action_space.seed(0)
    clocks = {env.step(env.action_space.sample())[4]["knobs"].sm_clock_mhz for _ in range(30)}
    if action["sm_clock"]:
        assert len(clocks - {None}) > 1
    else:
        assert clocks == {None}
        assert gymnasium.make(SINGLE, action=action["base"]).action_space == env.action_space


def test_the_default_grid_is_the_papers() -> None:
    env = gymnasium.make(SINGLE)
    np.testing.assert_array_equal(env.action_space.nvec, [6, 6])  # type: ignore[attr-defined]
    grid = env.unwrapped.encoding.grid  # type: ignore[attr-defined]
    assert grid.power_caps_w == (150.0, 200.0, 250.0, 300.0, 350.0, 400.0)
    assert grid.max_num_seqs == (1, 4, 8, 16, 32, 64)


def test_a_specification_survives_json() -> None:
    made = gymnasium.make(
        SINGLE,
        model="olmoe_1b_7b",
        gpu="h100_sxm",
        workload={"base": "bursty", "load": 0.4},
        objective="moving_target",
        action="joint",
        reward="efficiency_only",
        server={"base": "simulated", "tensor_parallel": 2},
        duration_s=60.0,
    )
    assert made.spec is not None
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(made.spec.to_json()))
    for env in (made, again):
        env.reset(seed=3)
    for action in (0, 17, 35):
        ours, theirs = made.step(action), again.step(action)
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1:] == theirs[1:]
