"""Many servers in one call are the single environment, many times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from support.scripted_server import ScriptedServer

import envs  # noqa: F401 - registers the environments
from envs.errors import ConfigurationError
from envs.factory import make_simulated, make_simulated_vector
from envs.simulator.vector import VectorServer, VectorServingEnv
from envs.telemetry import NUMERIC_FIELDS

SEED = 11
STEPS = 40
TELLS = ("cost", "throughput_tok_s", "violation_backlog", "violation_plain")
MIXED: dict[str, Sequence[Any]] = {
    "model": ["mixtral_8x7b", "olmoe_1b_7b"],
    "workload": ["bursty", {"base": "closed_loop"}, {"base": "poisson_gsm8k", "load": 1.2}],
    "objective": ["power_budget", "latency_slo", "moving_target"],
}


def make(count: int, **choices: Any) -> Any:
    return gym.make_vec(
        "pals/Simulated-v0",
        num_envs=count,
        vectorization_mode="vector_entry_point",
        vector_kwargs={},
        **choices,
    )


def draw(env: Any, steps: int, seed: int = 0) -> list[NDArray[Any]]:
    env.action_space.seed(seed)
    return [env.action_space.sample() for _ in range(steps)]


def singles(count: int, **choices: Any) -> list[gym.Env[Any, Any]]:
    def own(index: int) -> dict[str, Any]:
        return {
            key: value[index % len(value)] if isinstance(value, list) else value
            for key, value in choices.items()
        }

    return [gym.make("pals/Simulated-v0", **own(index)) for index in range(count)]


def assert_equal_steps(count: int, steps: int, **choices: Any) -> None:
    many, each = make(count, **choices), singles(count, **choices)
    observations, _ = many.reset(seed=SEED)
    for index, env in enumerate(each):
        np.testing.assert_array_equal(env.reset(seed=SEED + index)[0], observations[index])
    for actions in draw(many, steps):
        observations, rewards, terminated, truncated, info = many.step(actions)
        for index, env in enumerate(each):
            observation, reward, *ends, own = env.step(actions[index])
            np.testing.assert_array_equal(observation, observations[index])
            assert reward == rewards[index]
            assert ends == [terminated[index], truncated[index]]
            for key in TELLS:
                assert own[key] == info[key][index], key
            for name, term in own["rewards"].items():
                assert term == info["rewards"][name][index], name
            for name in NUMERIC_FIELDS:
                value = getattr(info["telemetry"], name)[index]
                assert getattr(own["telemetry"], name) == value, name
            assert own["conditions"] == tuple(field[index] for field in info["conditions"])


@pytest.mark.parametrize("action", ["grid", "joint", "delta", "continuous"])
def test_each_server_is_the_single_environment_bit_for_bit(action: str) -> None:
    assert_equal_steps(3, STEPS, action=action)


def test_servers_may_differ_in_model_workload_and_objective() -> None:
    assert_equal_steps(6, STEPS, **MIXED)


def test_randomised_calibrations_are_drawn_alike() -> None:
    assert_equal_steps(3, STEPS, domain_randomization=True)
    fixed, random = make(2), make(2, domain_randomization=True)
    for env in (fixed, random):
        env.reset(seed=SEED)
    actions = draw(fixed, 1)[0]
    drawn = random.step(actions)[4]["telemetry"].energy_gpu_j
    assert (drawn != fixed.step(actions)[4]["telemetry"].energy_gpu_j).all()


def test_more_servers_than_one_thread_takes_change_nothing() -> None:
    few, many = make(3), make(80)
    few.reset(seed=SEED), many.reset(seed=SEED)
    for actions in draw(many, 10):
        first = few.step(actions[:3])
        np.testing.assert_array_equal(first[0], many.step(actions)[0][:3])


def test_a_rewards_reference_reading_is_the_single_environments() -> None:
    assert_equal_steps(2, STEPS, reward={"base": "default", "qos_definition": "reference"})


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_autoreset_mode_is_declared(mode: AutoresetMode) -> None:
    env = make_simulated_vector(2, autoreset_mode=mode.name.lower())
    assert env.metadata["autoreset_mode"] is mode


def test_the_step_after_a_truncation_resets() -> None:
    env = make_simulated_vector(2, max_episode_steps=4)
    env.reset(seed=SEED)
    for step, actions in enumerate(draw(env, 12), start=1):
        observations, rewards, _, truncated, info = env.step(actions)
        assert truncated.all() == truncated.any() == (step % 5 == 4)
        if step % 5 == 0:
            assert (rewards == 0.0).all()
            assert (info["telemetry"].time_s == 0.0).all()
    assert observations.shape == (2, env.single_observation_space.shape[0])


def test_a_second_episode_goes_on_with_the_generator_as_the_single_one_does() -> None:
    many = make_simulated_vector(2, max_episode_steps=3, autoreset_mode="same_step")
    one = gym.make("pals/Simulated-v0", max_episode_steps=3)
    many.reset(seed=SEED)
    one.reset(seed=SEED)
    for step, actions in enumerate(draw(many, 9), start=1):
        observations, _, _, truncated, info = many.step(actions)
        observation, _, _, ended, _ = one.step(actions[0])
        assert ended == truncated[0] == (step % 3 == 0)
        if ended:
            np.testing.assert_array_equal(info["final_obs"][0], observation)
            observation, _ = one.reset()
        np.testing.assert_array_equal(observations[0], observation)


def test_a_mask_resets_some_servers_only() -> None:
    env = make_simulated_vector(3, autoreset_mode="disabled")
    env.reset(seed=SEED)
    env.step(draw(env, 1)[0])
    _, info = env.reset(options={"reset_mask": np.array([False, True, False])})
    assert info["telemetry"].time_s.tolist() == [0.5, 0.0, 0.5]


def test_action_spaces_that_differ_are_refused() -> None:
    unlike = [make_simulated(action="grid"), make_simulated(action="joint")]
    servers = [VectorServer.like(env) for env in unlike]
    with pytest.raises(ConfigurationError, match="action: servers of one vector"):
        VectorServingEnv(servers, unlike[0].reward)


def test_only_simulated_servers_are_stepped_together() -> None:
    env = make_simulated()
    env.system = ScriptedServer()
    with pytest.raises(ConfigurationError, match="server: ScriptedServer cannot be stepped"):
        VectorServer.like(env)


def test_masks_are_those_of_the_single_environment() -> None:
    many = make_simulated_vector(2, objective="budget_steps")
    many.reset(seed=SEED)
    one = gym.make("pals/Simulated-v0", objective="budget_steps")
    one.reset(seed=SEED)
    differing = set()
    for actions in draw(many, 400):
        mask = many.action_masks()[0]
        np.testing.assert_array_equal(mask, one.unwrapped.action_masks())  # type: ignore[attr-defined]
        differing.add(mask.tobytes())
        many.step(actions)
        one.step(actions[0])
    assert len(differing) > 1  # the budget has stepped
