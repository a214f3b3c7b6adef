"""A trained policy whose actions pass through the shield."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.shield import BudgetShield
from baselines.base import Policy


class ShieldedPolicy:
    """A policy whose power caps a shield holds within the power budget.

    Args:
        policy: A Stable-Baselines3 policy or model.
        shield: Lowers caps that the power budget does not leave; ``None`` lets every action
            through.
    """

    def __init__(self, policy: Policy, shield: BudgetShield | None) -> None:
        self._policy = policy
        self._shield = shield

    def predict(
        self,
        observation: NDArray[np.floating[Any]],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """Returns the shielded action, and the policy's next state.

        Args:
            observation: One encoded observation, or a batch with a leading axis.
            state: State returned by the call before; ``None`` at the start.
            episode_start: For each observation, whether its episode has just begun.
            deterministic: Whether to return the best action rather than a sample.
        """
        seen = np.asarray(observation, dtype=np.float32)
        action, state = self._policy.predict(seen, state, episode_start, deterministic)
        if self._shield is not None:
            many = seen.ndim == 2
            kept = self._shield(action if many else action[None], np.atleast_2d(seen))
            action = kept if many else kept[0]
        return action, state
