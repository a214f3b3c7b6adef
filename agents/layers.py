"""Layers around a policy: each keeps a state of its own for every server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from baselines.base import Policy

Kept = TypeVar("Kept", bound=tuple[Any, ...])


class Seen(NamedTuple, Generic[Kept]):
    """What a layer makes of an observation of each server.

    Attributes:
        shown: What the policy inside is shown, shape ``(servers, entries)``.
        kept: What is kept of each server from now on.
    """

    shown: NDArray[np.float32]
    kept: Kept


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

    def seen(self, observations: NDArray[np.float32], kept: Kept) -> Seen[Kept]:
        """Takes an observation of each server into account.

        Args:
            observations: Shape ``(servers, entries)``.
            kept: What is kept of each server.
        """
        return Seen(observations, kept)

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
        """Returns an action and the next state; see :class:`baselines.base.Policy`."""
        many = np.atleast_2d(np.asarray(observation, dtype=np.float32))
        kept, own = (self.first(many), None) if state is None else state
        if state is not None and episode_start is not None:
            kept = _begun_again(kept, self.first(many), np.asarray(episode_start, dtype=np.bool_))
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
