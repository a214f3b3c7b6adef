"""Bounds how often an agent moves the knobs: a reserve of changes that fills with time.

An agent knows a price of changes, but where much is at stake, such as a demanded TPOT SLO, no price
keeps a policy from going to and fro between two batch limits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.base import Policy
from envs.actions.base import ActionEncoding
from envs.context import ControlContext
from envs.knobs import Knobs

RESERVE = 10.0
"""Changes that may follow one another at once, after a while without any."""
_SAME = 1e-3
"""Relative difference up to which two values of a knob are the same: observations are rounded."""


class ChangeLimitedPolicy:
    """A policy whose knobs stay as they are while it has used up its changes.

    Args:
        policy: A policy whose observations begin with a server's own entries.
        encoding: Encoding of its actions.
        context: What is known of the servers.
        per_minute: Changes in a minute, in the long run.
        batch: Whether the batch limit is one of its knobs.
    """

    def __init__(
        self,
        policy: Policy,
        encoding: ActionEncoding,
        context: ControlContext,
        *,
        per_minute: float,
        batch: bool = True,
    ) -> None:
        self._policy, self._encoding, self._layout = policy, encoding, context.layout
        self._refill = per_minute * context.interval_s / 60.0
        self._batch = batch

    def predict(
        self,
        observation: NDArray[np.floating[Any]],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """Returns an action and the next state; see :class:`baselines.base.Policy`."""
        left, own = (None, None) if state is None else state
        action, own = self._policy.predict(observation, own, episode_start, deterministic)
        many = np.atleast_2d(observation)
        if left is None:
            left = np.full(len(many), RESERVE)
        elif episode_start is not None:
            left = np.where(episode_start, RESERVE, left)
        current = self._layout.decode(many[:, : len(self._layout.high)]).last_knobs
        actions = np.asarray(action).reshape(
            len(many), *np.shape(action)[np.ndim(observation) - 1 :]
        )
        moved = self._moved(self._encoding.decode(actions, current), current)
        held = moved & (left < 1.0)
        if held.any():
            kept = held.reshape(-1, *[1] * (actions.ndim - 1))
            actions = np.where(kept, self._encoding.encode(current, current), actions)
        left = np.minimum(left - (moved & ~held) + self._refill, max(RESERVE, self._refill))
        return actions.reshape(np.shape(action)), (left, own)

    def _moved(self, asked: Knobs, current: Knobs) -> NDArray[np.bool_]:
        """Returns on which servers a knob would move."""
        pairs = [(asked.power_cap_w, current.power_cap_w)]
        if self._batch:
            pairs.append((asked.max_num_seqs, current.max_num_seqs))
        if asked.sm_clock_mhz is not None:
            pairs.append((asked.sm_clock_mhz, current.sm_clock_mhz))
        moved = [np.abs(new - old) > _SAME * np.abs(old) for new, old in pairs]
        return np.asarray(np.logical_or.reduce(moved))
