"""A multi-armed bandit over the grid: learns online, without a model or a profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from baselines.base import KnobController
from baselines.budget import caps_within
from envs.context import ControlContext
from envs.knobs import Knobs
from envs.observations import Observation
from envs.quantities import Fraction, Gain, PositiveFraction, Seconds, SecondsOrNone


class _State(NamedTuple):
    """The pull in progress and what was learned from those before it.

    Attributes:
        arm: The arm being tried.
        intervals: Intervals it has been in force.
        earned: Rewards summed over the intervals that count.
        pulls: Discounted number of pulls per arm.
        rewards: Discounted sum of mean rewards per arm.
        budget: Caps that the power budget left when the arm was picked.
    """

    arm: int
    intervals: int
    earned: float
    pulls: NDArray[np.float64]
    rewards: NDArray[np.float64]
    budget: int


@dataclass(kw_only=True)
class Bandit(KnobController):
    """Discounted UCB (arXiv:0805.3415) on energy efficiency under a throughput penalty.

    It follows bandits for GPU energy (arXiv:2410.11855): each choice of knobs is an arm, one is
    held for ``hold_s``, its reward is efficiency less a penalty while throughput is short, and
    the arm in force is kept unless another one's index is better by ``switch_margin``. The
    reward is what an operator can see: output tokens per joule as a fraction of the capacity
    at full power, minus ``penalty`` in intervals that are below the target while requests wait.
    Loads change, so old rewards are discounted.

    Attributes:
        hold_s: Time an arm is held, in seconds.
        settle_s: Time after a switch that does not count: queue and power still follow
            the arm before.
        discount: Weight of a pull after one more pull; 1 never forgets.
        exploration: Width of the confidence bonus, in units of the reward.
        penalty: Reward lost in an interval that violates throughput QoS.
        switch_margin: How much better another arm's index must be.
        batch_fraction: Batch limits below this fraction of the largest are no arms: the fewer
            arms, the sooner each has been tried.
    """

    hold_s: Seconds = 5.0
    settle_s: SecondsOrNone = 1.5
    discount: PositiveFraction = 0.99
    exploration: Gain = 0.3
    penalty: Gain = 1.0
    switch_margin: Gain = 0.0
    batch_fraction: Fraction = 0.5

    def __post_init__(self) -> None:
        """Checks that something of an arm's time counts."""
        super().__post_init__()
        self.require(self.settle_s < self.hold_s, "settle_s", f"be < hold_s ({self.hold_s})")

    @override
    def bind(self, context: ControlContext) -> None:
        super().bind(context)
        grid = context.grid
        fewest = self.batch_fraction * grid.max_num_seqs[-1]
        self._arms = [knobs for knobs in grid.choices if knobs.max_num_seqs >= fewest]
        self._caps = np.array([grid.power_caps_w.index(arm.power_cap_w) for arm in self._arms])
        self._hold = max(1, round(self.hold_s / context.interval_s))
        self._settle = min(self._hold - 1, round(self.settle_s / context.interval_s))
        self._rated_w = context.num_gpus * context.limits.power_cap_max_w

    @override
    def decide(self, observation: Observation, state: _State | None) -> tuple[Knobs, Any]:
        budget = caps_within(self.context, observation)
        if state is None:
            nothing = np.zeros(len(self._arms))
            arm = self._best(nothing, nothing, budget, len(self._arms) - 1)
            return self._arms[arm], _State(arm, 0, 0.0, nothing, nothing, budget)
        intervals = state.intervals + 1
        earned = state.earned
        if intervals > self._settle:
            earned += self._reward(observation)
        state = state._replace(intervals=intervals, earned=earned)
        if intervals < self._hold and budget == state.budget:
            return self._arms[state.arm], state
        pulls, rewards = state.pulls, state.rewards
        if intervals == self._hold:
            pulls, rewards = self.discount * pulls, self.discount * rewards
            pulls[state.arm] += 1.0
            rewards[state.arm] += earned / (self._hold - self._settle)
        arm = self._best(pulls, rewards, budget, state.arm)
        return self._arms[arm], _State(arm, 0, 0.0, pulls, rewards, budget)

    def _reward(self, observation: Observation) -> float:
        useful = observation.output_tok_s / self.context.capacity_tok_s
        spent = max(observation.power_w / self._rated_w, 1e-3)
        tolerance = self.context.qos.tolerance
        short = observation.throughput_tok_s < (1.0 - tolerance) * observation.target_tok_s
        return float(useful / spent - self.penalty * (short and observation.waiting > 0.5))

    def _best(
        self, pulls: NDArray[np.float64], rewards: NDArray[np.float64], budget: int, current: int
    ) -> int:
        """Returns the allowed arm with the highest upper confidence bound."""
        allowed = self._caps < budget
        untried = allowed & (pulls < 1e-3)
        if untried.any():
            return int(np.flatnonzero(untried)[-1])  # fastest arms first: they are the safe ones
        total = np.log(1.0 + pulls.sum())
        tried = np.maximum(pulls, 1e-3)
        index = rewards / tried + self.exploration * np.sqrt(total / tried)
        best = int(np.argmax(np.where(allowed, index, -np.inf)))
        if allowed[current] and index[best] <= index[current] + self.switch_margin:
            return current
        return best
