"""Bounds how often an agent moves the knobs: a reserve of changes that fills with time.

An agent knows a price of changes, but where much is at stake, such as a demanded TPOT SLO, no price
keeps a policy from going to and fro between two batch limits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from agents.layers import PolicyLayer
from baselines.base import Policy
from envs.actions.base import ActionEncoding
from envs.context import ControlContext
from envs.knobs import Knobs

RESERVE = 10.0
"""Changes that may follow one another at once, after a while without any."""
_SAME = 1e-3
"""Relative difference up to which two values of a knob are the same: observations are rounded."""


class Reserve(NamedTuple):
    """What is left to each server.

    Attributes:
        changes: Changes that it may make, shape ``(servers,)``.
    """

    changes: NDArray[np.float64]


def spent(
    moved: NDArray[np.bool_], kept: Reserve, refill: float
) -> tuple[NDArray[np.bool_], Reserve]:
    """Returns which servers' knobs stay, and what is left to each server.

    Args:
        moved: On which servers a knob would move, shape ``(servers,)``.
        kept: What was left to them.
        refill: Changes that each gets for an interval.
    """
    held = moved & (kept.changes < 1.0)
    left = kept.changes - (moved & ~held) + refill
    return held, Reserve(np.minimum(left, max(RESERVE, refill)))


class ChangeLimitedPolicy(PolicyLayer[Reserve]):
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
        super().__init__(policy)
        self._encoding, self._layout = encoding, context.layout
        self._refill = per_minute * context.interval_s / 60.0
        self._batch = batch

    @override
    def first(self, observations: NDArray[np.float32]) -> Reserve:
        return Reserve(np.full(len(observations), RESERVE))

    @override
    def done(
        self, actions: NDArray[Any], observations: NDArray[np.float32], kept: Reserve
    ) -> tuple[NDArray[Any], Reserve]:
        current = self._layout.decode(observations[:, : len(self._layout.high)]).last_knobs
        moved = self._moved(self._encoding.decode(actions, current), current)
        held, kept = spent(moved, kept, self._refill)
        if held.any():
            rows = held.reshape(-1, *[1] * (actions.ndim - 1))
            actions = np.where(rows, self._encoding.encode(current, current), actions)
        return actions, kept

    def _moved(self, asked: Knobs, current: Knobs) -> NDArray[np.bool_]:
        """Returns on which servers a knob would move."""
        pairs = [(asked.power_cap_w, current.power_cap_w)]
        if self._batch:
            pairs.append((asked.max_num_seqs, current.max_num_seqs))
        if asked.sm_clock_mhz is not None:
            pairs.append((asked.sm_clock_mhz, current.sm_clock_mhz))
        moved = [np.abs(new - old) > _SAME * np.abs(old) for new, old in pairs]
        return np.asarray(np.logical_or.reduce(moved))
