"""What an agent remembers of its observations: their means over stretches of the past.

A policy without a state of its own cannot tell from one observation how far it is ahead of
Baseline within the QoS window: that hangs on when requests came and when they were served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from agents.compatibility import describe_observation, observation_space
from agents.layers import PolicyLayer
from baselines.base import Policy
from envs.fields import Checked
from envs.observations import Observation, ObservationLayout
from envs.quantities import Seconds

FROM, TO = "from_s", "to_s"
"""Keys of a remembered entry's description: the stretch of the past that it is the mean of."""
_LONGEST_S = 600.0


class Past(NamedTuple):
    """Entries of the last observations.

    Attributes:
        seen: The remembered entries, oldest first, shape ``(servers, intervals, entries)``.
    """

    seen: NDArray[np.float32]


@dataclass(kw_only=True)
class Memory(Checked):
    """What is remembered (``memory`` of a recipe in ``conf/agent``).

    Attributes:
        entries: Entries of the observation; none by default.
        until_s: Where each stretch of the past ends and the next one begins, in seconds ago; the
            first one begins now.
    """

    config_key: ClassVar[str] = "agent.memory"

    entries: list[str] = field(default_factory=list)
    until_s: list[Seconds] = field(default_factory=lambda: [2.5, 5.0, 10.0, 20.0])

    def __post_init__(self) -> None:
        """Checks that the entries are there, and that the stretches follow one another."""
        super().__post_init__()
        for name in self.entries:
            self.require(
                name in Observation._fields, "entries", f"hold entries of an observation ({name})"
            )
        self.require(len(set(self.entries)) == len(self.entries), "entries", "be different")
        rising = all(a < b for a, b in zip(self.until_s, self.until_s[1:], strict=False))
        self.require(rising and len(self.until_s) > 0, "until_s", "rise")
        self.require(self.until_s[-1] <= _LONGEST_S, "until_s", f"end within {_LONGEST_S:g} s")

    def __bool__(self) -> bool:
        """Whether anything is remembered."""
        return bool(self.entries)

    @property
    def stretches_s(self) -> list[tuple[float, float]]:
        """Where each stretch begins and ends, in seconds ago."""
        return list(zip([0.0, *self.until_s], self.until_s, strict=False))

    def described(self, layout: ObservationLayout) -> list[dict[str, Any]]:
        """Returns the meaning of each remembered entry, as bundles write it down."""
        known = {entry["name"]: entry for entry in describe_observation(layout)}
        return [
            {**known[name], FROM: begin, TO: end}
            for begin, end in self.stretches_s
            for name in self.entries
        ]

    def shown(self, layout: ObservationLayout) -> list[dict[str, Any]]:
        """Returns the meaning of all entries: a server's own, and what is remembered of them."""
        return [*describe_observation(layout), *self.described(layout)]

    def space(self, layout: ObservationLayout) -> gym.spaces.Box:
        """Returns the space of observations with what is remembered behind them."""
        return observation_space(self.shown(layout))

    @classmethod
    def of(cls, described: Sequence[dict[str, Any]]) -> Memory:
        """Returns the memory that the entries of a bundle describe."""
        own = [entry for entry in described if TO in entry]
        if not own:
            return cls()
        names = list(dict.fromkeys(entry["name"] for entry in own))
        return cls(entries=names, until_s=list(dict.fromkeys(entry[TO] for entry in own)))


class Remembering:
    """A memory at work on some servers.

    Args:
        memory: What is remembered.
        layout: Of the servers' observations.
        interval_s: Time between two observations.
    """

    def __init__(self, memory: Memory, layout: ObservationLayout, interval_s: float) -> None:
        self._index = [layout.index(name) for name in memory.entries]

        def steps(seconds: float) -> int:
            return max(1, round(seconds / interval_s)) if seconds else 0

        stretches = [(steps(begin), steps(end)) for begin, end in memory.stretches_s]
        self._depth = depth = stretches[-1][1]
        self._stretches = [
            slice(depth - end, max(depth - begin, depth - end + 1))
            for begin, end in stretches
            if memory
        ]

    def start(self, observations: NDArray[np.floating[Any]]) -> Past:
        """Returns the past of servers whose episodes begin: as if it had always been so.

        Args:
            observations: The first observation of each, shape ``(servers, entries)``.
        """
        now = np.asarray(observations, dtype=np.float32)[:, self._index]
        return Past(np.repeat(now[:, None], self._depth, axis=1))

    def after(
        self, observations: NDArray[np.floating[Any]], past: Past | None
    ) -> tuple[NDArray[np.float32], Past]:
        """Takes an observation of each server into account.

        Args:
            observations: Shape ``(servers, entries)``.
            past: What has been seen before; ``None`` for nothing.

        Returns:
            The observations with what is remembered behind them, and what has been seen.
        """
        many = np.asarray(observations, dtype=np.float32)
        past = past or self.start(many)
        if not self._stretches:
            return many, past
        now = many[:, self._index]
        seen = np.concatenate([past.seen[:, 1:], now[:, None]], axis=1)
        means = [seen[:, own].mean(axis=1) for own in self._stretches]
        return np.concatenate([many, *means], axis=1), Past(seen)

    def policy(self, policy: Policy) -> Policy:
        """Returns a policy for observations without memory, given one for those with."""
        return RememberingPolicy(policy, self)


class RememberingPolicy(PolicyLayer[Past]):
    """A policy that is shown what is remembered of the observations before.

    Args:
        policy: A policy whose observations have the remembered entries behind the server's own.
        remembering: The memory.
    """

    def __init__(self, policy: Policy, remembering: Remembering) -> None:
        super().__init__(policy)
        self._remembering = remembering

    @override
    def first(self, observations: NDArray[np.float32]) -> Past:
        return self._remembering.start(observations)

    @override
    def seen(
        self, observations: NDArray[np.float32], kept: Past
    ) -> tuple[NDArray[np.float32], Past]:
        return self._remembering.after(observations, kept)
