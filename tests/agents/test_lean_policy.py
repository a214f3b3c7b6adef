"""The lean policy computes what Stable-Baselines3's own computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy

from agents.lean_policy import LeanPolicy, ShuffledBuffer, choices_of
from agents.recipe import Recipe
from agents.vec_env import make_vec_env

SPACE = spaces.Box(0.0, 4.0, (28,), np.float32)
ACTIONS: list[spaces.Space[Any]] = [
    spaces.MultiDiscrete([6, 6]),
    spaces.MultiDiscrete([3, 3, 3]),
    spaces.Discrete(36),
]


def both(actions: spaces.Space[Any]) -> tuple[ActorCriticPolicy, LeanPolicy]:
    torch.manual_seed(0)
    made = [
        kind(SPACE, actions, lambda _: 1e-3, net_arch=[64, 64])
        for kind in (ActorCriticPolicy, LeanPolicy)
    ]
    with torch.no_grad():
        for parameter in made[0].parameters():  # far from even probabilities
            parameter.mul_(4.0)
    made[1].load_state_dict(made[0].state_dict())
    return made[0], made[1]  # type: ignore[return-value]


def sampled(actions: spaces.Space[Any], count: int) -> torch.Tensor:
    actions.seed(0)
    return torch.as_tensor(np.array([actions.sample() for _ in range(count)]))


@pytest.mark.parametrize("actions", ACTIONS)
def test_values_probabilities_entropies_and_gradients_are_the_same(
    actions: spaces.Space[Any],
) -> None:
    plain, lean = both(actions)
    observations = 4.0 * torch.rand(50, 28)
    taken = sampled(actions, 50)
    gradients = []
    for policy in (plain, lean):
        found = policy.evaluate_actions(observations, taken)
        for one, other in zip(found, plain.evaluate_actions(observations, taken), strict=True):
            assert one is not None
            assert other is not None
            torch.testing.assert_close(one, other)
        policy.zero_grad()
        (found[0].sum() + found[1].exp().sum() + found[2].sum()).backward()  # type: ignore[union-attr,no-untyped-call]
        gradients.append([parameter.grad for parameter in policy.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("actions", ACTIONS)
def test_samples_follow_the_probabilities(actions: spaces.Space[Any]) -> None:
    plain, lean = both(actions)
    observation = (4.0 * torch.rand(1, 28)).expand(40_000, -1)
    with torch.no_grad():
        taken, values, log_prob = lean(observation)
        expected = plain.evaluate_actions(observation[:1], taken[:1])
        torch.testing.assert_close(values[:1], expected[0])
        torch.testing.assert_close(log_prob[:1], expected[1])
        logits, _ = lean._outputs(observation[:1])
    for part, probabilities in enumerate(logits[0].softmax(-1)):
        values_of = taken.reshape(40_000, -1)[:, part]
        seen = torch.bincount(values_of, minlength=len(probabilities)) / 40_000
        assert (seen - probabilities).abs().max() < 0.01
    best = lean(observation[:5], deterministic=True)[0]
    np.testing.assert_array_equal(best, plain(observation[:5], deterministic=True)[0])
    assert best.shape == (5, *actions.shape)  # type: ignore[misc]


def test_an_epoch_has_every_decision_once_and_rows_stay_together() -> None:
    actions = spaces.MultiDiscrete([6, 6])
    buffer = ShuffledBuffer(6, SPACE, actions, device="cpu", n_envs=4)
    for step in range(6):
        marks = np.arange(4) + 10.0 * step
        buffer.add(
            np.repeat(marks[:, None], 28, axis=1), np.repeat(marks[:, None] % 6, 2, axis=1),
            marks, np.zeros(4), torch.as_tensor(marks), torch.as_tensor(marks),
        )  # fmt: skip
    buffer.compute_returns_and_advantage(torch.zeros(4), np.zeros(4))
    orders = []
    for _ in range(2):
        seen = []
        for batch in buffer.get(7):
            mark = batch.observations[:, 0]
            assert (batch.observations == mark[:, None]).all()
            assert (batch.actions == (mark % 6)[:, None]).all()
            assert (batch.old_values == mark).all()
            assert (batch.old_log_prob == mark).all()
            torch.testing.assert_close(batch.returns, batch.advantages + batch.old_values)
            seen += mark.tolist()
        assert len(seen) == 24
        orders.append(seen)
    assert (
        sorted(orders[0])
        == sorted(orders[1])
        == sorted(np.arange(24) // 4 * 10 + np.arange(24) % 4)
    )
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    ("algorithm", "action", "policy", "lean"),
    [
        ("stable_baselines3.PPO", "grid", "MlpPolicy", True),
        ("stable_baselines3.PPO", "joint", "MlpPolicy", True),
        ("stable_baselines3.PPO", "continuous", "MlpPolicy", False),
        ("stable_baselines3.A2C", "grid", "MlpPolicy", False),
    ],
)
def test_a_recipe_takes_it_where_it_fits(
    algorithm: str, action: str, policy: str, lean: bool
) -> None:
    env = make_vec_env(2, action=action)
    recipe = Recipe(algorithm=algorithm, arguments={"policy": policy}, action=action, servers=2)
    model: Any = recipe.make(env, seed=0, device="cpu")
    assert isinstance(model.policy, LeanPolicy) is lean
    assert recipe.arguments == {"policy": "MlpPolicy"}


def test_other_sizes_are_left_alone() -> None:
    assert choices_of(spaces.MultiDiscrete([6, 5])) is None
    assert choices_of(SPACE) is None


def test_it_learns() -> None:
    """Actions that match the observation are rewarded."""
    from stable_baselines3.common.vec_env import VecEnv

    class Match(VecEnv):
        def __init__(self) -> None:
            super().__init__(16, spaces.Box(0.0, 1.0, (4,), np.float32), spaces.Discrete(4))
            self._rng = np.random.default_rng(0)

        def _next(self) -> Any:
            self._right = self._rng.integers(4, size=16)
            return np.eye(4, dtype=np.float32)[self._right]

        def reset(self) -> Any:
            return self._next()

        def step_async(self, actions: Any) -> None:
            self._taken = actions

        def step_wait(self) -> Any:
            rewards = (self._taken == self._right).astype(np.float64)
            self.mean = rewards.mean()
            return self._next(), rewards, np.zeros(16, dtype=bool), [{} for _ in range(16)]

        def close(self) -> None: ...
        def get_attr(self, attr_name: str, indices: Any = None) -> Any:
            return [None] * 16

        def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None: ...
        def env_method(self, *_: Any, **__: Any) -> Any:
            return [None] * 16

        def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> Any:
            return [False] * 16

    env = Match()
    model = PPO(
        LeanPolicy, env, n_steps=32, batch_size=128, rollout_buffer_class=ShuffledBuffer,
        learning_rate=3e-3, seed=0, device="cpu",
    )  # fmt: skip
    model.learn(6_000)
    assert env.mean > 0.7
