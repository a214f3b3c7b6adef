"""The networks' short cut gives what Stable-Baselines3's own policy and autograd give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy

from agents.lean_networks import drawn, log_softmax, tanh_layers
from agents.lean_policy import LeanPolicy

SEEN = spaces.Box(-1.0, 1.0, (28,), np.float32)
GRID = spaces.MultiDiscrete([6, 6])


def policies(space: Any, **options: Any) -> tuple[ActorCriticPolicy, LeanPolicy]:
    torch.manual_seed(0)
    own = ActorCriticPolicy(SEEN, space, lambda _: 1e-3, **options)
    lean = LeanPolicy(SEEN, space, lambda _: 1e-3, **options)
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.mul_(3.0).add_(0.05 * torch.randn_like(parameter))
    lean.load_state_dict(own.state_dict())
    return own, lean


def taken(space: Any, count: int) -> torch.Tensor:
    space.seed(0)
    return torch.as_tensor(np.stack([space.sample() for _ in range(count)]))


@pytest.mark.parametrize("space", [GRID, spaces.Discrete(36)])
@pytest.mark.parametrize("arch", [[64, 64], [32], {"pi": [16, 8, 8], "vf": [64]}])
def test_values_losses_and_derivatives_are_those_of_autograd(space: Any, arch: Any) -> None:
    torch.manual_seed(1)
    observations, actions = torch.randn(500, 28), taken(space, 500)
    weights = torch.randn(3, 500)
    found = []
    for policy in policies(space, net_arch=arch):
        values, log_prob, entropy = policy.evaluate_actions(observations, actions)
        assert entropy is not None
        loss = (weights * torch.stack([values.flatten(), log_prob.exp(), entropy])).mean()
        loss.backward()
        gradients = [parameter.grad for parameter in policy.parameters()]
        found.append([values, log_prob, entropy, *gradients])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_a_rollout_uses_the_same_outputs() -> None:
    own, lean = policies(GRID)
    observations = torch.randn(50, 28)
    with torch.no_grad():
        actions, values, log_prob = lean(observations)
        expected = own.evaluate_actions(observations, actions)
        best, _, _ = own(observations, deterministic=True)
        torch.testing.assert_close(lean(observations, deterministic=True)[0], best)
    torch.testing.assert_close(values, expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(log_prob, expected[1], rtol=1e-5, atol=1e-6)


def test_other_networks_take_the_way_of_the_library() -> None:
    own, lean = policies(GRID, activation_fn=torch.nn.ReLU)
    assert tanh_layers(lean.mlp_extractor.policy_net) is None
    observations, actions = torch.randn(50, 28), taken(GRID, 50)
    for expected, value in zip(
        own.evaluate_actions(observations, actions),
        lean.evaluate_actions(observations, actions),
        strict=True,
    ):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_large_logits_do_not_overflow() -> None:
    logits = torch.tensor([[[1e4, 0.0, -1e4]]])
    log_probabilities, probabilities = log_softmax(logits)
    torch.testing.assert_close(log_probabilities, logits.log_softmax(-1))
    assert probabilities.sum() == 1.0


def test_indices_are_drawn_as_often_as_they_are_probable() -> None:
    torch.manual_seed(0)
    probabilities = torch.tensor([[0.0, 0.5, 0.2, 0.3, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    found = drawn(probabilities.expand(200_000, 2, 5))
    for part in range(2):
        counts = torch.bincount(found[:, part], minlength=5) / 200_000
        torch.testing.assert_close(counts, probabilities[part], rtol=0.0, atol=0.004)
    assert set(found[:, 0].tolist()) == {1, 2, 3}
