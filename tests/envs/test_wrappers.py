"""Wrappers keep the episode as it is and change only what they say."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.errors import ConfigurationError
from envs.observations import Observation
from pals_gym import FlatCost, StackKnobs, UnitObservation

PARTS: dict[str, Any] = {
    "model": "olmoe_1b_7b",
    "server": {"base": "simulated", "tensor_parallel": 1},
}


def made(**parts: Any) -> Any:
    return gymnasium.make("pals/Simulated-v0", **PARTS, **parts)


def test_observations_are_scaled_to_unit_bounds_and_back() -> None:
    plain, scaled = made(), UnitObservation(made())
    high = plain.observation_space.high
    for env in (plain, scaled):
        env.reset(seed=2)
    for _ in range(20):
        ours, theirs = plain.step(np.array([1, 2]))[0], scaled.step(np.array([1, 2]))[0]
        assert scaled.observation_space.contains(theirs)
        np.testing.assert_allclose((theirs + 1.0) * high / 2.0, ours, atol=1e-5)


def test_the_knobs_of_the_past_are_appended_latest_first() -> None:
    env = StackKnobs(made(), intervals=3)
    entries = len(Observation._fields)
    first, _ = env.reset(seed=1)
    assert first.shape == env.observation_space.shape == (entries + 3 * 4,)
    asked = Observation._fields.index("last_power_cap_w")
    caps = []
    for level in (0, 3, 5, 1):
        observation = env.step(np.array([level, 5]))[0]
        assert env.observation_space.contains(observation)
        past = observation[entries:].reshape(3, 4)
        if len(caps) >= 3:
            np.testing.assert_array_equal(past[:, 2], caps[:-4:-1])
        caps.append(observation[asked])
    assert len(set(caps)) == 4
    again, _ = env.reset(seed=1)
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize("wrapper", [UnitObservation, StackKnobs])
def test_wrapped_environments_pass_the_checker(wrapper: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version")
        env = wrapper(made())
        check_env(env, skip_render_check=True)
    assert wrapper.__name__ in str(env.spec.additional_wrappers)
    again = gymnasium.make(env.spec)
    assert again.observation_space == env.observation_space


def test_wrappers_go_together() -> None:
    env = UnitObservation(StackKnobs(made(), intervals=2))
    observation, _ = env.reset(seed=1)
    assert observation.shape == (len(Observation._fields) + 8,)
    assert env.observation_space.contains(observation)


def test_the_cost_stands_beside_the_reward() -> None:
    plain, flat = made(), FlatCost(made())
    plain.reset(seed=3)
    flat.reset(seed=3)
    for _ in range(80):
        _, reward, terminated, truncated, info = plain.step(np.array([0, 0]))
        step = flat.step(np.array([0, 0]))
        assert step[1:5] == (reward, info["cost"], terminated, truncated)
        assert step[5]["cost"] == info["cost"]
    assert info["cost"] == 1.0  # the lowest knobs cannot keep up
    assert flat.unwrapped.context is not None
    flat.close()


def test_what_cannot_be_stacked_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="StackKnobs: intervals: must be a whole"):
        StackKnobs(made(), intervals=0)
    stacked = StackKnobs(made())
    with pytest.raises(ConfigurationError, match="one server's observation"):
        StackKnobs(stacked)
