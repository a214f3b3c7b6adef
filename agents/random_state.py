"""The generators that a training draws from, as plain values."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from typing_extensions import override

_NOISE = ("exploration_mat", "exploration_matrices")
"""Noise of state-dependent exploration, which is drawn before a rollout begins."""


def random_state(model: BaseAlgorithm) -> dict[str, Any]:
    """Returns the state of all generators that a training draws from."""
    name, keys, place, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - SB3 draws there
    python: Any = random.getstate()
    spaces = model.action_space.np_random.bit_generator.state
    return {
        "numpy": json.dumps([str(name), np.asarray(keys).tolist(), place, has_gauss, gauss]),
        "python": json.dumps(python),
        "actions": json.dumps(spaces),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "noise": {name: getattr(owner, name) for owner in _noisy(model) for name in _NOISE},
    }


def restore_random_state(state: dict[str, Any], model: BaseAlgorithm) -> None:
    """Sets all generators to a state that :func:`random_state` returned."""
    name, keys, place, has_gauss, gauss = json.loads(state["numpy"])
    keys = np.array(keys, dtype=np.uint32)
    np.random.set_state((name, keys, place, has_gauss, gauss))  # noqa: NPY002
    version, inner, after = json.loads(state["python"])
    random.setstate((version, tuple(inner), after))
    model.action_space.np_random.bit_generator.state = json.loads(state["actions"])
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])
    for owner in _noisy(model):
        for noise, value in state["noise"].items():
            setattr(owner, noise, value)


def _noisy(model: BaseAlgorithm) -> list[Any]:
    """Returns the distribution with state-dependent noise, if there is one."""
    if not getattr(model, "use_sde", False):
        return []
    policy: Any = model.policy
    owner = getattr(policy, "actor", None) or policy
    return [owner.action_dist]


class GoesOn(BaseCallback):
    """Sets the generators of a resumed training when its first rollout begins.

    What is drawn from them while a training is set up is not drawn in one that was not interrupted.

    Args:
        state: What :func:`random_state` returned.
    """

    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__()
        self._state: dict[str, Any] | None = state

    @override
    def _on_rollout_start(self) -> None:
        if self._state is not None:
            restore_random_state(self._state, self.model)
            self._state = None

    @override
    def _on_step(self) -> bool:
        return True
