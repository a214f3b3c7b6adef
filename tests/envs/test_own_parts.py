"""Mistakes in one's own reward, and in what environments are made of, are told by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from envs.errors import ConfigurationError
from envs.factory import make_simulated, make_simulated_vector
from envs.rewards import Efficiency, Reward, RewardTerm, Step


@dataclass(kw_only=True)
class Returns(RewardTerm):
    """Returns what it is given."""

    value: Any

    def __call__(self, step: Step) -> Any:
        """Returns it."""
        return self.value


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, "x", [1.0], {}])
@pytest.mark.parametrize("servers", [0, 2])
def test_a_term_that_is_no_finite_number_is_told(value: Any, servers: int) -> None:
    reward = Reward(terms={"efficiency": Efficiency(), "mine": Returns(value=value)})
    made: Any = (
        make_simulated_vector(servers, reward=reward) if servers else make_simulated(reward=reward)
    )
    made.reset(seed=1)
    action = np.zeros((servers, 2), np.int64) if servers else [0, 0]
    with pytest.raises(ConfigurationError, match=r"reward: must be .* number; terms\.mine"):
        made.step(action)


@pytest.mark.parametrize(
    ("part", "told"),
    [(Reward, "class Reward"), (lambda step: 1.0, "function .*lambda")],
)
def test_a_class_or_a_function_is_no_part(part: Any, told: str) -> None:
    with pytest.raises(
        ConfigurationError, match=f"reward: must be .* or an object; got the {told}"
    ):
        make_simulated(reward=part)


@pytest.mark.parametrize("count", [0, -1, 1.5, "a", None, True, 10**7])
def test_a_number_of_servers_that_is_none_is_told(count: Any) -> None:
    with pytest.raises(
        ConfigurationError, match="num_envs: must be a whole number of 1 to 100,000"
    ):
        make_simulated_vector(count)


@pytest.mark.parametrize("key", ["workload", "objective", "model"])
def test_a_list_has_no_choice_that_no_server_gets(key: str) -> None:
    choices = {"workload": "bursty", "objective": "power_budget", "model": "olmoe_1b_7b"}
    parts: dict[str, Any] = {key: [choices[key]] * 3}
    with pytest.raises(ConfigurationError, match=f"{key}: a list of 3 choices.* 2 servers"):
        make_simulated_vector(2, **parts)
    assert make_simulated_vector(3, **parts).num_envs == 3


def test_lists_have_an_entry_for_each_server() -> None:
    with pytest.raises(ConfigurationError, match=r"workload: a list .* is empty"):
        make_simulated_vector(2, workload=[])
    env = make_simulated_vector(2)
    for seed in ([1], [1, 2, 3]):
        with pytest.raises(
            ConfigurationError, match="seed: a list must hold one for each of the 2"
        ):
            env.reset(seed=seed)
    with pytest.raises(ConfigurationError, match="reset_mask must hold one for each of the 2"):
        env.reset(options={"reset_mask": [True]})


@pytest.mark.parametrize(
    "value", [1j, np.ones(3), np.ones((2, 2)), np.array("x"), np.ma.masked, (1.0, 2.0)], ids=repr
)
@pytest.mark.parametrize("servers", [0, 2])
def test_a_term_of_another_shape_or_kind_is_told(value: Any, servers: int) -> None:
    with pytest.raises(ConfigurationError, match=r"reward: must be .* number.*; terms\.mine"):
        step_with(Reward(terms={"mine": Returns(value=value)}), servers)


def test_one_number_for_all_servers_is_a_term() -> None:
    reward = Reward(terms={"efficiency": Efficiency(), "mine": Returns(value=2)})
    assert np.shape(step_with(reward, 2)[1]) == (2,)


@dataclass(kw_only=True)
class OwnSum(Reward):
    """A reward whose sum is its own."""

    found: Any = None

    def __call__(self, step: Step) -> Any:
        """Returns what it was given."""
        return self.found


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (None, "must return a pair"),
        (1.0, "must return a pair"),
        ("ab", "must return a pair"),
        ((1.0, {}), "must return a pair"),
        ((1.0, {"other": 1.0}), "must return a pair"),
        ((1j, {"mine": 1.0}), "the reward is 1j"),
        ((np.ones(3), {"mine": 1.0}), "the reward is array"),
        ((1.0, {"mine": None}), "mine is None"),
        ((math.nan, {"mine": 1.0}), "the reward is nan"),
    ],
    ids=str,
)
@pytest.mark.parametrize("servers", [0, 2])
def test_a_reward_of_ones_own_is_named(found: Any, told: str, servers: int) -> None:
    reward = OwnSum(terms={"mine": Efficiency()}, found=found)
    with pytest.raises(ConfigurationError, match=f"^reward: OwnSum must return .*{told}|{told}"):
        step_with(reward, servers)


def test_a_sum_of_ones_own_is_used_though_all_its_terms_are_compiled() -> None:
    reward = OwnSum(terms={"mine": Efficiency()}, found=(7.0, {"mine": 3.0}))
    _, got, _, _, info = step_with(reward, 0)
    assert (got, info["rewards"]) == (7.0, {"mine": 3.0})


def step_with(reward: Reward, servers: int) -> Any:
    """Takes a step of one server (0) or of several under a reward."""
    made: Any = (
        make_simulated_vector(servers, reward=reward) if servers else make_simulated(reward=reward)
    )
    made.reset(seed=1)
    return made.step(np.zeros((servers, 2), np.int64) if servers else [0, 0])
