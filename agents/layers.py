"""Layers around a policy: each keeps a state of its own for every server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from baselines.base import Policy

Kept = TypeVar("Kept", bound=tuple[Any, ...])


class PolicyLayer(ABC, Generic[Kept]):
    """A policy around another one that changes what it is shown, or what it does.

    What is kept is a named tuple of arrays whose first axis is that of the servers. It begins
    again with each server's episode.

    Args:
        policy: The policy inside.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @abstractmethod
    def first(self, observations: NDArray[np.float32]) -> Kept:
        """Returns what is kept of servers whose episodes begin.

        Args:
            observations: The first observation of each, shape ``(servers, entries)``.
        """

    def seen(
        self, observations: NDArray[np.float32], kept: Kept
    ) -> tuple[NDArray[np.float32], Kept]:
        """Returns what the policy inside is shown, and what is kept.

        Args:
            observations: What is observed of each server, shape ``(servers, entries)``.
            kept: What is kept of each.
        """
        return observations, kept

    def done(
        self, actions: NDArray[Any], observations: NDArray[np.float32], kept: Kept
    ) -> tuple[NDArray[Any], Kept]:
        """Returns what is done in place of what the policy inside asks for, and what is kept.

        Args:
            actions: What it asks for on each server.
            observations: What the layer was shown of each.
            kept: What is kept of each.
        """
        return actions, kept

    def predict(
        self,
        observation: NDArray[np.floating[Any]],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """Returns an action and the next state; see :class:`baselines.base.Policy`.

        Raises:
            ValueError: The state is that of another number of servers.
        """
        many = np.atleast_2d(np.asarray(observation, dtype=np.float32))
        kept, own = (self.first(many), None) if state is None else state
        if len(kept[0]) != len(many):
            raise ValueError(
                f"state: it is that of {len(kept[0])} servers, and {len(many)} are observed; "
                "begin with state=None"
            )
        fresh = np.zeros(1, dtype=np.bool_) if episode_start is None else np.asarray(episode_start)
        if state is not None and fresh.any():
            kept = _begun_again(kept, self.first(many), fresh.astype(np.bool_))
        shown, kept = self.seen(many, kept)
        asked, own = self._policy.predict(shown, own, episode_start, deterministic)
        actions, kept = self.done(np.asarray(asked), many, kept)
        return (actions if np.ndim(observation) == 2 else actions[0]), (kept, own)


def _begun_again(kept: Kept, first: Kept, fresh: NDArray[np.bool_]) -> Kept:
    """Returns what is kept, and of some servers what is kept at first."""

    def chosen(new: NDArray[Any], old: NDArray[Any]) -> NDArray[Any]:
        which = np.broadcast_to(fresh, len(new)).reshape(-1, *[1] * (new.ndim - 1))
        return np.where(which, new, old)

    return type(kept)(*(chosen(*pair) for pair in zip(first, kept, strict=True)))
