"""Compiled rewards equal those of plain Python, to the last bit."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from envs import catalog, loop
from envs.compiled.reward_terms import compiled_terms, python_terms
from envs.factory import make_simulated, make_simulated_vector
from envs.rewards import Efficiency, Reward

SERVER = {"base": "simulated", "tensor_parallel": 1, "max_num_seqs": 48}
OBJECTIVES = ["throughput_target", "latency_slo", "budget_steps", "moving_target"]
REWARDS = catalog.names("reward")


@dataclass(kw_only=True)
class Own(Efficiency):
    """A subclass: its formula may be another one."""


def in_python(name: str) -> Reward:
    """The same reward with a class that is not compiled, without weight."""
    reward: Reward = catalog.build("reward", name)
    return Reward(
        terms={**reward.terms, "own": Own(weight=0.0)}, qos_definition=reward.qos_definition
    )


@pytest.mark.parametrize("name", REWARDS)
@pytest.mark.parametrize("action", ["grid", "continuous"])
def test_a_single_servers_reward_is_the_same(name: str, action: str) -> None:
    for objective in OBJECTIVES[:: 1 if action == "grid" else 3]:
        choices: dict[str, Any] = {
            "model": "gpt2", "server": SERVER, "objective": objective, "action": action,
            "workload": {"base": "poisson_gsm8k", "load": 1.4},
        }  # fmt: skip
        found = []
        for reward in (catalog.build("reward", name), in_python(name)):
            env = make_simulated(**choices, reward=reward)
            env.reset(seed=5)
            env.action_space.seed(0)
            rows = []
            for _ in range(120):
                _, value, _, _, info = env.step(env.action_space.sample())
                terms = {key: term for key, term in info["rewards"].items() if key != "own"}
                rows.append((value, terms, info["cost"]))
            found.append(rows)
        assert found[0] == found[1]
        assert len({value for value, _, _ in found[0]}) > 50


@pytest.mark.parametrize("name", REWARDS)
@pytest.mark.parametrize("action", ["grid", "continuous"])
def test_many_servers_rewards_are_the_same(name: str, action: str) -> None:
    found = []
    for reward in (catalog.build("reward", name), in_python(name)):
        env = make_simulated_vector(
            7, model="gpt2", server=SERVER, objective=OBJECTIVES, action=action, reward=reward,
            workload={"base": "poisson_gsm8k", "load": 1.4}, max_episode_steps=50,
        )  # fmt: skip
        env.reset(seed=5)
        env.action_space.seed(0)
        rows = []
        for _ in range(120):
            _, rewards, _, _, info = env.step(env.action_space.sample())
            terms = {key: term.tolist() for key, term in info["rewards"].items() if key != "own"}
            rows.append((rewards.tolist(), terms, info["cost"].tolist()))
        found.append(rows)
    assert found[0] == found[1]


def test_only_classes_whose_formula_is_compiled_are() -> None:
    own = in_python("default")
    assert python_terms(own) == ["own"]
    assert len(compiled_terms(own)) == 0
    assert len(compiled_terms(catalog.build("reward", "default"))) == 5


def test_an_own_term_of_a_vector_says_that_it_is_slow(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_said", set())
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            make_simulated_vector(2, model="gpt2", server=SERVER, reward=in_python("default"))
    assert [record.message.split(":")[0] for record in caplog.records] == ["reward.terms.own"]


def test_weights_and_parameters_count() -> None:
    rewards = [
        {"base": "default", "terms": {"qos": {"weight": weight, "shortfall_weight": depth}}}
        for weight, depth in ((1.0, 2.0), (3.0, 2.0), (1.0, 9.0))
    ]
    seen = []
    for reward in rewards:
        env = make_simulated(
            model="gpt2", server=SERVER, reward=reward, objective="throughput_target",
            workload={"base": "poisson_gsm8k", "load": 1.5},
        )  # fmt: skip
        env.reset(seed=1)
        seen.append(sum(env.step(np.array([0, 0]))[4]["rewards"]["qos"] for _ in range(100)))
    assert seen[1] == pytest.approx(3.0 * seen[0])
    assert seen[2] < seen[0] < 0.0
