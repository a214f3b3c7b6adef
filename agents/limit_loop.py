"""A slow loop at run time: it moves what an agent is asked for until the limit holds.

A policy keeps a limit on servers like those of its training. On others the violations that a server
can know of (backlog-aware) are averaged, and the limit that the policy is shown is lowered while
there are too many, and raised again while there are too few. By default it ends at the asked limit:
a server knows of fewer violations than there are, and a loop that trusts it asks for too many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from agents.asked import with_asked
from agents.layers import PolicyLayer
from baselines.base import Policy
from envs.context import ControlContext
from envs.fields import Checked
from envs.objectives.qos import QoSConfig, violation_plain, work_waits
from envs.observations import Observation
from envs.quantities import Factor, PositiveFraction, Seconds

FloatArray = NDArray[np.float64]


@dataclass(kw_only=True)
class LimitLoop(Checked):
    """How the shown limit follows the violations that are measured.

    Attributes:
        active: Whether it moves at all; otherwise the policy is shown the asked limit throughout.
        memory_s: Time in seconds over which violations are averaged.
        response_s: Time in seconds in which the shown limit falls by a factor of e while the rate
            is twice the asked one.
        lowest: Lowest limit that is shown.
        highest: Highest limit that is shown.
        slack: Highest limit that is shown, as a multiple of the asked one.
    """

    config_key: ClassVar[str] = "controller.loop"

    active: bool = True
    memory_s: Seconds = 120.0
    response_s: Seconds = 60.0
    lowest: PositiveFraction = 0.002
    highest: PositiveFraction = 0.15
    slack: Factor = 1.0

    def __post_init__(self) -> None:
        """Checks that the limits are in order."""
        super().__post_init__()
        self.require(self.lowest < self.highest, "lowest", f"be < highest ({self.highest})")


class LoopState(NamedTuple):
    """What the loop remembers of each server.

    Attributes:
        rate: Averaged rate of violations.
        shown: Limit that the policy is shown.
        age_s: Time since the start of the episode in seconds, when it is next observed.
    """

    rate: FloatArray
    shown: FloatArray
    age_s: FloatArray

    @classmethod
    def start(cls, count: int, limit: float) -> LoopState:
        """Returns the state at the start of episodes."""
        return cls(np.full(count, limit), np.full(count, limit), np.zeros(count))

    def after(
        self, loop: LimitLoop, limit: float, seen: Observation, qos: QoSConfig, interval_s: float
    ) -> LoopState:
        """Returns the state after an interval.

        Args:
            loop: How fast it moves.
            limit: The limit that is asked for.
            seen: What was observed, decoded.
            qos: How throughput is evaluated.
            interval_s: Length of the interval in seconds.
        """
        age_s = self.age_s + interval_s
        if not loop.active:
            return self._replace(age_s=age_s)
        violated: Any = violation_plain(seen.throughput_tok_s, seen.target_tok_s, qos.tolerance)
        violated &= work_waits(np.rint(seen.waiting), seen.oldest_wait_s, qos.backlog_s)
        # Before this observation the servers were as old as when the interval before it began,
        # and an interval more: what is seen first belongs to no interval.
        counts = qos.evaluates(self.age_s - interval_s) & (seen.target_tok_s > 0)
        weight = np.where(counts, min(1.0, interval_s / loop.memory_s), 0.0)
        rate = self.rate + weight * (violated - self.rate)
        excess = np.clip((rate - limit) / limit, -1.0, 3.0)
        moved = self.shown * np.exp(-np.where(counts, interval_s / loop.response_s, 0.0) * excess)
        highest = max(loop.lowest, min(loop.highest, loop.slack * limit))
        return LoopState(rate, np.clip(moved, loop.lowest, highest), age_s)


class LimitKeepingPolicy(PolicyLayer[LoopState]):
    """A limit-conditioned policy that is asked for what the loop says.

    Args:
        policy: A policy whose observations begin with a server's own entries and end with what
            is asked for.
        loop: How what it is asked for follows the violations that are measured.
        limit: Rate of QoS violations that the operator allows.
        switch_price: What an interval in which a knob moves costs, in the units of the reward.
        context: What is known of the servers.
    """

    def __init__(
        self,
        policy: Policy,
        loop: LimitLoop,
        limit: float,
        switch_price: float,
        context: ControlContext,
    ) -> None:
        super().__init__(policy)
        self._loop, self._context = loop, context
        self._limit, self._switch_price = limit, switch_price

    @override
    def first(self, observations: NDArray[np.float32]) -> LoopState:
        return LoopState.start(len(observations), self._limit)

    @override
    def seen(
        self, observations: NDArray[np.float32], kept: LoopState
    ) -> tuple[NDArray[np.float32], LoopState]:
        context = self._context
        seen = context.layout.decode(observations[:, : len(context.layout.high)])
        kept = kept.after(self._loop, self._limit, seen, context.qos, context.interval_s)
        return with_asked(observations, kept.shown, self._switch_price), kept
