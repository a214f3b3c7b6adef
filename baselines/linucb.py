"""A contextual bandit: one linear model of the reward for each clock or cap, from the load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from baselines.base import KnobController
from baselines.budget import caps_within
from baselines.speed_levels import SpeedLevels
from envs.context import ControlContext
from envs.knobs import Knobs
from envs.observations import Observation
from envs.quantities import FractionBelowOne, Gain, Positive, PositiveFraction, Seconds

FloatArray = NDArray[np.float64]
_FEATURES = 7


class _State(NamedTuple):
    """The pull in progress and what was learned before it.

    Attributes:
        arm: The arm in force.
        context: Features that it was chosen on.
        intervals: Intervals it has been in force.
        earned: Reward summed over them.
        inverse: Inverse of each arm's matrix of features, shape ``(arms, features, features)``.
        moment: Each arm's rewards times features, shape ``(arms, features)``.
        pulls: Number of pulls of each arm.
        mean: Mean reward of each arm.
        pruned: Arms that are tried no more.
        budget: Caps that the power budget left when the arm was chosen.
    """

    arm: int
    context: FloatArray
    intervals: int
    earned: float
    inverse: FloatArray
    moment: FloatArray
    pulls: FloatArray
    mean: FloatArray
    pruned: NDArray[np.bool_]
    budget: int


@dataclass(kw_only=True)
class LinUcb(KnobController):
    """LinUCB over clocks or caps with the load as context, in the manner of AGFT.

    After arXiv:2508.01744: an arm for each frequency, features of load that an engine's metrics
    give, a reward in the form of an energy-delay product, and arms that are pruned once they have
    proved bad. Without a model or a profile, it learns on the server that it controls. The arms are
    the clocks of the grid where the clock is a knob, and its caps where it is not.

    Attributes:
        hold_s: Time an arm is held, in seconds.
        alpha: Width of the confidence bonus.
        ridge: Regularisation of the linear models.
        delay: Exponent of the delay in the reward: 1 for the energy-delay product.
        forget: Weight that earlier pulls lose with each pull of the same arm.
        prune_after: Pulls of an arm after which it may be pruned.
        prune_margin: How much worse than the best arm's its mean reward has to be for that.
        penalty: Reward lost in an interval below the target while requests wait. The source has no
            target of throughput; without this it would ignore it.
    """

    hold_s: Seconds = 1.0
    alpha: Gain = 0.3
    ridge: Positive = 1.0
    delay: Gain = 1.0
    forget: FractionBelowOne = 0.02
    prune_after: Gain = 10.0
    prune_margin: PositiveFraction = 0.5
    penalty: Gain = 0.5

    @override
    def bind(self, context: ControlContext) -> None:
        super().bind(context)
        self._levels = SpeedLevels(context.grid)
        self._count = len(self._levels.values)
        self._hold = max(1, round(self.hold_s / context.interval_s))
        self._rated_w = context.num_gpus * context.limits.power_cap_max_w

    @override
    def decide(self, observation: Observation, state: _State | None) -> tuple[Knobs, Any]:
        budget = caps_within(self.context, observation)
        if state is None:
            nothing = np.zeros(self._count)
            inverse = np.tile(np.eye(_FEATURES) / self.ridge, (self._count, 1, 1))
            state = _State(
                self._count - 1, self._features(observation), 0, 0.0, inverse,
                np.zeros((self._count, _FEATURES)), nothing, nothing,
                np.zeros(self._count, dtype=np.bool_), budget,
            )  # fmt: skip
            return self._levels.knobs(state.arm, budget), state
        state = state._replace(
            intervals=state.intervals + 1, earned=state.earned + self._reward(observation)
        )
        if state.intervals < self._hold and budget == state.budget:
            return self._levels.knobs(state.arm, budget), state
        state = self._learned(state)
        features = self._features(observation)
        arm = self._best(state, features, budget)
        state = state._replace(arm=arm, context=features, intervals=0, earned=0.0, budget=budget)
        return self._levels.knobs(arm, budget), state

    def _features(self, seen: Observation) -> FloatArray:
        """Returns load and latency as an engine's metrics give them, each about 0 to 1."""
        context = self.context
        places = context.grid.max_num_seqs[-1]
        return np.array(
            [
                1.0,
                seen.running / places,
                min(2.0, seen.waiting / places),
                seen.kv_cache_usage,
                seen.output_tok_s / context.capacity_tok_s,
                min(1.0, seen.prompt_tok_s / (10.0 * context.capacity_tok_s)),
                min(2.0, seen.throughput_tok_s / seen.target_tok_s if seen.target_tok_s else 1.0),
            ]
        )

    def _reward(self, seen: Observation) -> float:
        """Returns minus the energy-delay product of a token, over a full server's at full power."""
        useful = max(seen.output_tok_s / self.context.capacity_tok_s, 0.02)
        energy = seen.power_w / self._rated_w / useful
        places = self.context.grid.max_num_seqs[-1]
        requests = max(seen.running, 1.0) / places
        delay = (requests / useful) ** self.delay  # Little's law: time per token in the server
        tolerance = self.context.qos.tolerance
        short = seen.throughput_tok_s < (1.0 - tolerance) * seen.target_tok_s
        lost = self.penalty * (short and seen.waiting > 0.5)
        return float(-min(energy * delay, 4.0) - lost)

    def _learned(self, state: _State) -> _State:
        """Returns the state after the pull in progress has been learned from."""
        arm, features = state.arm, state.context
        reward = state.earned / state.intervals
        inverse, moment, pulls, mean = (
            array.copy() for array in (state.inverse, state.moment, state.pulls, state.mean)
        )
        own = inverse[arm] / (1.0 - self.forget)
        along = own @ features
        inverse[arm] = own - np.outer(along, along) / (1.0 + features @ along)  # Sherman-Morrison
        moment[arm] = (1.0 - self.forget) * moment[arm] + reward * features
        pulls[arm] += 1.0
        mean[arm] += (reward - mean[arm]) / min(pulls[arm], 1.0 / max(self.forget, 1e-3))
        known = pulls >= max(self.prune_after, 1.0)
        pruned = state.pruned
        if known.any():
            best = mean[known].max()
            pruned = known & (mean < best - self.prune_margin * max(abs(best), 0.1))
        return state._replace(inverse=inverse, moment=moment, pulls=pulls, mean=mean, pruned=pruned)

    def _best(self, state: _State, features: FloatArray, budget: int) -> int:
        """Returns the arm with the highest upper confidence bound of those that are left."""
        theta = np.einsum("aij,aj->ai", state.inverse, state.moment)
        width = np.einsum("i,aij,j->a", features, state.inverse, features)
        bound = theta @ features + self.alpha * np.sqrt(np.maximum(width, 0.0))
        allowed = ~state.pruned
        allowed[self._levels.highest(budget) + 1 :] = False
        if not allowed.any():
            return self._count - 1 if self._levels.by_clock else 0
        return int(np.argmax(np.where(allowed, bound, -np.inf)))
