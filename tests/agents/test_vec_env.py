"""The Stable-Baselines3 view of many servers: seeds, autoreset, infos, masks."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import envs  # noqa: F401 - registers the environments
from agents.resumable import EpisodeSoFar, ResumableVecEnv
from agents.vec_env import ServingVecEnv, make_vec_env
from envs.errors import ConfigurationError
from envs.factory import make_simulated_vector

EPISODE = 6
SERVERS = 3


@pytest.fixture
def venv() -> ServingVecEnv:
    return make_vec_env(SERVERS, seed=5, max_episode_steps=EPISODE)


def _actions(venv: ServingVecEnv, steps: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = venv.action_space.nvec
    return [rng.integers(sizes, size=(venv.num_envs, len(sizes))) for _ in range(steps)]


def test_each_server_is_the_single_environment_with_its_own_seed(venv: ServingVecEnv) -> None:
    actions = _actions(venv, EPISODE)
    first = venv.reset()
    stepped = [venv.step(action) for action in actions]
    for index in range(SERVERS):
        single = gym.make("pals/Simulated-v0", max_episode_steps=EPISODE)
        observation, _ = single.reset(seed=5 + index)
        np.testing.assert_array_equal(observation, first[index])
        for action, (observations, rewards, ended, infos) in zip(actions, stepped, strict=True):
            observation, reward, _, truncated, _ = single.step(action[index])
            assert reward == rewards[index]
            assert truncated == ended[index]
            if truncated:
                observations = {index: infos[index]["terminal_observation"]}
            np.testing.assert_array_equal(observation, observations[index])


def test_a_truncated_episode_ends_and_begins_within_one_step(venv: ServingVecEnv) -> None:
    venv.reset()
    for step, action in enumerate(_actions(venv, 2 * EPISODE), start=1):
        observations, _, ended, infos = venv.step(action)
        assert ended.all() == ended.any() == (step % EPISODE == 0)
        for observation, info in zip(observations, infos, strict=True):
            assert ("terminal_observation" in info) == (step % EPISODE == 0)
            if step % EPISODE == 0:
                assert info["TimeLimit.truncated"] is True
                assert not np.array_equal(info["terminal_observation"], observation)
                layout = venv.get_attr("context")[0].layout
                assert layout.decode(observation).running == 0.0  # nothing has passed yet
                assert layout.decode(info["terminal_observation"]).running > 0.0


def test_earlier_observations_stay_as_they_were(venv: ServingVecEnv) -> None:
    kept = [venv.reset()]
    copies = [kept[0].copy()]
    for action in _actions(venv, EPISODE + 1):
        kept.append(venv.step(action)[0])
        copies.append(kept[-1].copy())
    for observation, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(observation, copy)


def test_seeds_repeat_an_episode_and_are_used_once(venv: ServingVecEnv) -> None:
    def episode() -> np.ndarray:
        venv.reset()
        return np.stack([venv.step(action)[1] for action in _actions(venv, 3)])

    first = episode()
    second = episode()
    assert not np.array_equal(first, second)
    assert venv.seed(5) == [5, 6, 7]
    np.testing.assert_array_equal(episode(), first)


def test_infos_hold_what_was_asked_for() -> None:
    venv = make_vec_env(2, info_keys=("cost", "telemetry.power_w", "rewards.qos"))
    venv.reset()
    _, _, _, infos = venv.step(np.array([venv.action_space.sample()] * 2))
    power = venv.vector_info["telemetry"].power_w
    assert [info["telemetry.power_w"] for info in infos] == power.tolist()
    assert [set(info) for info in infos] == [{"cost", "telemetry.power_w", "rewards.qos"}] * 2
    assert (power > 0).all()


def test_action_masks_follow_the_power_budget_of_each_server() -> None:
    from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported

    budgets = [0.4, 0.9]
    signals = [
        {"_target_": "envs.objectives.signals.Constant", "value": fraction} for fraction in budgets
    ]
    objectives = [{"base": "throughput_target", "power_budget": signal} for signal in signals]
    venv = make_vec_env(2, objective=objectives)
    venv.reset()
    assert is_masking_supported(venv)
    masks = get_action_masks(venv)
    caps = venv.get_attr("context")[0].grid.power_caps_w
    assert masks.shape == (2, sum(venv.action_space.nvec))
    for mask, fraction in zip(masks, budgets, strict=True):
        expected = [cap <= fraction * caps[-1] or cap == caps[0] for cap in caps]
        assert mask[: len(caps)].tolist() == expected
    np.testing.assert_array_equal(venv.env_method("action_masks", indices=1)[0], masks[1])
    np.testing.assert_array_equal(venv.get_attr("action_masks", 1)[0](), masks[1])


def test_attributes_can_be_set_per_server_and_unknown_ones_are_refused(
    venv: ServingVecEnv,
) -> None:
    venv.set_attr("label", "odd", indices=[1])
    assert venv.get_attr("label", 1) == ["odd"]
    assert not venv.has_attr("label")
    with pytest.raises(AttributeError, match="no_such_thing"):
        venv.get_attr("no_such_thing")
    assert venv.env_is_wrapped(gym.Wrapper) == [False] * SERVERS


def test_other_autoreset_modes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="autoreset_mode"):
        ServingVecEnv(make_simulated_vector(1, autoreset_mode="next_step"))


def test_ppo_learns_on_it_and_its_episodes_are_counted() -> None:
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecMonitor

    monitored = VecMonitor(make_vec_env(4, seed=0, max_episode_steps=EPISODE))
    model = PPO("MlpPolicy", monitored, n_steps=8, batch_size=16, n_epochs=1, device="cpu")
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(64)
    moved = zip(before, model.policy.parameters(), strict=True)
    assert any(not np.array_equal(a.numpy(), b.detach().numpy()) for a, b in moved)
    assert [episode["l"] for episode in model.ep_info_buffer] == [EPISODE] * 8


def test_an_episode_of_another_number_of_servers_is_not_brought_back():
    servers = ResumableVecEnv(make_simulated_vector(1, autoreset_mode="same_step"))
    episode = EpisodeSoFar([{}, {}], [0, 1], np.empty((0, 2)))
    with pytest.raises(ConfigurationError, match="is of 2 servers, and 1 are configured"):
        servers.bring_back(episode)
