"""Stable-Baselines3's policy for discrete actions with fewer calls of torch, and its buffer.

Networks, losses and parameters are those of ``MlpPolicy``, so that bundles and checkpoints do
not know the difference. A network of 64 units takes less time than the calls around it: one
function with a derivative of its own (:mod:`agents.lean_networks`) replaces the layers and a
distribution object for each knob, and minibatches are slices of tensors that are shuffled once in
an epoch.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, RolloutBufferSamples
from typing_extensions import override

from agents.lean_networks import (
    Evaluated,
    Networks,
    drawn,
    log_softmax,
    of_actions,
    outputs,
    tanh_layers,
)


def choices_of(space: spaces.Space[Any]) -> int | None:
    """Returns the number of values of each part of a discrete action, if it is one number."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete) and len(set(space.nvec.tolist())) == 1:
        return int(space.nvec[0])
    return None


class LeanPolicy(ActorCriticPolicy):
    """An ``MlpPolicy`` for actions whose parts all have the same number of values."""

    @override
    def forward(
        self, obs: torch.Tensor, deterministic: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits, values = self._outputs(obs)
        log_probabilities, probabilities = log_softmax(logits)
        actions = logits.argmax(-1) if deterministic else drawn(probabilities)
        log_prob = of_actions(log_probabilities, actions)
        return actions.reshape(-1, *self.action_space.shape), values, log_prob  # type: ignore[misc]

    @override
    def evaluate_actions(
        self, obs: PyTorchObs, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        networks = self._networks
        if networks is not None:
            taken = actions.long().reshape(len(actions), -1)
            assert isinstance(obs, torch.Tensor)
            return Evaluated.of(networks, obs.flatten(1), taken)
        logits, values = self._outputs(obs)
        log_probabilities, probabilities = log_softmax(logits)
        log_prob = of_actions(log_probabilities, actions.long().reshape(logits.shape[:-1]))
        entropy = -(probabilities * log_probabilities).sum((-2, -1))
        return values, log_prob, entropy

    def _outputs(self, obs: PyTorchObs) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns logits, shape ``(batch, parts, values)``, and values, shape ``(batch, 1)``."""
        networks = self._networks
        if networks is not None and not torch.is_grad_enabled():
            assert isinstance(obs, torch.Tensor)
            return outputs(networks, obs.flatten(1))
        features = self.extract_features(obs)
        latent_pi, latent_vf = self.mlp_extractor(features)
        logits: torch.Tensor = self.action_net(latent_pi)
        choices = choices_of(self.action_space)
        assert choices is not None
        return logits.view(len(logits), -1, choices), self.value_net(latent_vf)

    @property
    def _networks(self) -> Networks | None:
        """The layers, where they are plain ones with ``tanh`` between."""
        extractor, choices = self.mlp_extractor, choices_of(self.action_space)
        actor, critic = tanh_layers(extractor.policy_net), tanh_layers(extractor.value_net)
        flat = isinstance(self.features_extractor, FlattenExtractor)
        if not flat or actor is None or critic is None or choices is None:
            return None
        actor_head, critic_head = self.action_net, self.value_net
        assert isinstance(actor_head, torch.nn.Linear)
        return Networks([*actor, actor_head], [*critic, critic_head], choices)


class ShuffledBuffer(RolloutBuffer):
    """A rollout buffer whose minibatches are slices of what was shuffled for the epoch."""

    @override
    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        assert self.full
        if not self.generator_ready:
            count = self.buffer_size * self.n_envs
            self._inputs = self._tensor(self.observations.reshape(count, -1))
            self._taken = self._tensor(self.actions.reshape(count, -1).astype(np.float32))
            kept = (self.values, self.log_probs, self.advantages, self.returns)
            self._columns = self._tensor(np.stack([column.reshape(count) for column in kept]))
            self.generator_ready = True
        count = len(self._inputs)
        size = count if batch_size is None else batch_size
        order = torch.randperm(count).to(self.device)
        inputs, taken = self._inputs[order], self._taken[order]
        columns = self._columns[:, order]
        for begin in range(0, count, size):
            part = slice(begin, begin + size)
            values, log_prob, advantages, returns = columns[:, part]
            yield RolloutBufferSamples(
                inputs[part], taken[part], values, log_prob, advantages, returns
            )

    def _tensor(self, array: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
