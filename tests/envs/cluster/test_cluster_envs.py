"""The flat and the parallel environment keep Gymnasium's, SB3's and PettingZoo's contracts."""

from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import parallel_api_test
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import envs  # noqa: F401 - registers the environments
from envs.cluster.factory import make_cluster, make_parallel_cluster
from envs.errors import ConfigurationError
from envs.serving import ServingEnv

NODES = (
    {"name": "large", "model": "olmoe_1b_7b", "target_fraction": 0.9},
    {"name": "small", "model": "olmoe_1b_7b", "target_fraction": 0.5},
)
SMALL = {"nodes": NODES, "budget": 2500.0, "duration_s": 30.0}
ACTIONS = ("grid", "joint", "delta", "continuous")


@pytest.mark.parametrize(
    ("shared", "said"),
    [
        ({"model": "nonsense"}, "^model: no choice named 'nonsense'"),
        ({"model": {"base": "nonsense"}}, "^model: no choice named 'nonsense'"),
        ({"model": {"base": "olmoe_1b_7b", "nonsense": 1}}, "^model=olmoe_1b_7b: .*nonsense"),
        ({"gpu": "nonsense"}, "^gpu: no choice named 'nonsense'"),
    ],
)
def test_a_wrong_choice_that_every_node_replaces_is_refused(shared, said):
    nodes = [{"name": "own", "model": "olmoe_1b_7b", "gpu": "h100_sxm"}]
    with pytest.raises(ConfigurationError, match=said):
        make_cluster(nodes=nodes, budget=2500.0, **shared)


@pytest.mark.parametrize("allocator", ["uniform", "by_action"])
@pytest.mark.parametrize("action", ACTIONS)
def test_gymnasium_and_sb3_accept_the_flat_environment(action, allocator):
    env = gymnasium.make(
        "pals/Cluster-v0", **SMALL, action=action, allocator=allocator, disable_env_checker=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        check_env(env.unwrapped, skip_render_check=True)
        sb3_check_env(env.unwrapped, warn=True)
    env.close()


@pytest.mark.parametrize("action", ACTIONS)
def test_pettingzoo_accepts_the_parallel_environment(action):
    env = make_parallel_cluster(max_episode_steps=8, **SMALL, action=action)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        parallel_api_test(env, num_cycles=20)
    assert env.agents == []  # truncated
    env.close()


def rollout(env, seed, steps=20):
    observation, _ = env.reset(seed=seed)
    env.action_space.seed(7)
    seen, rewards = [observation], []
    for _ in range(steps):
        observation, reward, _, _, _ = env.step(env.action_space.sample())
        seen.append(observation)
        rewards.append(reward)
    return np.array(seen), rewards


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_is_decoded_once(action, monkeypatch):
    env = make_cluster(**SMALL, action=action)
    env.reset(seed=0)
    seen = []

    def counted(self, given):
        seen.append(self)
        return decode(self, given)

    decode = ServingEnv.decode
    monkeypatch.setattr(ServingEnv, "decode", counted)
    env.step(env.action_space.sample())
    assert seen == [node.env for node in env.cluster.nodes]


def test_the_same_seed_gives_the_same_episode():
    env = make_cluster(**SMALL)
    first, rewards = rollout(env, 3)
    again, same = rollout(env, 3)
    other, _ = rollout(env, 4)
    np.testing.assert_array_equal(first, again)
    assert rewards == same
    assert not np.array_equal(first, other)


def test_flat_and_parallel_environments_are_the_same_plant():
    flat, parallel = make_cluster(**SMALL), make_parallel_cluster(**SMALL)
    flat.cluster.reset(5)
    parallel.cluster.reset(5)
    action = np.array([1, 3])
    for _ in range(6):
        first = flat.cluster.step([action, action])
        second = parallel.cluster.step([action, action])
    assert first == second
    np.testing.assert_array_equal(
        flat.cluster.nodes[0].observation, parallel.cluster.nodes[0].observation
    )


def test_an_agents_weights_move_the_budget():
    env = make_cluster(**SMALL, allocator="by_action")
    env.reset(seed=0)
    assert env.action_space.nvec.tolist()[-2:] == [6, 6]
    best = env.action_space.nvec - 1
    *_, info = env.step(best)
    even = info["cluster"].allocation_w
    best[-2:] = (5, 0)
    *_, info = env.step(best)
    assert even[0] == pytest.approx(even[1])
    assert info["cluster"].allocation_w[0] > 1.5 * info["cluster"].allocation_w[1]
    assert sum(info["cluster"].allocation_w) <= 2500.0 * (1 + 1e-9)


def test_caps_are_clipped_to_the_budget_and_info_tells():
    env = make_cluster(**SMALL)
    env.reset(seed=0)
    *_, info = env.step(env.action_space.nvec - 1)
    assert set(info["nodes"]) == {"large", "small"}
    per_gpu = ((2500.0 / 2) - 345.0) / 1.05 / 4
    for told in info["nodes"].values():
        assert told["knobs"].power_cap_w == pytest.approx(per_gpu)
        assert told["conditions"].power_budget_w == pytest.approx(1250.0)
    assert info["cost"] == np.mean([told["cost"] for told in info["nodes"].values()])


def test_power_over_the_budget_costs_reward():
    generous = make_cluster(nodes=NODES, duration_s=30.0, budget=2500.0)
    stingy = make_cluster(nodes=NODES, duration_s=30.0, budget=100.0)
    for env in (generous, stingy):
        env.reset(seed=0)
    lowest = np.zeros_like(generous.action_space.nvec)
    rewards = [env.step(lowest)[1] for env in (generous, stingy)]
    assert rewards[1] < rewards[0] - 10.0


@pytest.mark.parametrize(
    ("node", "message"),
    [({"modell": "olmoe_1b_7b"}, "modell"), ({"model": "olmo"}, "no choice named 'olmo'")],
)
def test_wrong_nodes_are_named(node, message):
    with pytest.raises(ConfigurationError, match=message):
        make_cluster(nodes=[node])


def test_replicas_fraction_the_load_and_nodes_add_overhead():
    def node(**server):
        built = make_cluster(
            nodes=[{"model": "olmoe_1b_7b", "server": {"base": "simulated", **server}}],
            budget=1e5,
            duration_s=10.0,
        )
        return built.cluster.nodes[0]

    one, three = node(), node(data_parallel=3)
    assert three.env.context.num_gpus == 12
    assert three.ceiling_w == pytest.approx(3 * one.ceiling_w)
    ratio = three.env.context.capacity_tok_s / one.env.context.capacity_tok_s
    assert 2.0 < ratio < 3.2


def test_expert_parallelism_over_nodes_pays_for_infiniband():
    def capacity(**server):
        built = make_cluster(
            nodes=[{"model": "deepseek_moe_16b", "server": {"base": "simulated", **server}}],
            budget=1e5,
            duration_s=10.0,
        )
        context = built.cluster.nodes[0].env.context
        return context.capacity_tok_s / context.num_gpus

    within = capacity(tensor_parallel=4, data_parallel=1, expert_parallel=4)
    across = capacity(tensor_parallel=4, data_parallel=3, expert_parallel=12)
    same_link = capacity(tensor_parallel=4, data_parallel=3, expert_parallel=12, gpus_per_node=12)
    assert across < 0.9 * same_link
    assert across < within
