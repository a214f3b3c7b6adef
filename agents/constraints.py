"""Constraints of safe training: a cost, its limit, and the PID loop that prices it.

The price (Lagrange multiplier) of a cost rises while its rate is above the limit and falls
while it is below: Stooke, Achiam and Abbeel, "Responsive Safety in Reinforcement Learning by
PID Lagrangian Methods", ICML 2020, algorithm 2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from agents.budgets import PowerScopes
from envs.context import ControlContext
from envs.fields import Checked
from envs.knobs import Knobs
from envs.objectives.conditions import Conditions
from envs.quantities import FractionBelowOne, Gain, PositiveFraction
from envs.telemetry import Telemetry

FloatArray = NDArray[np.float64]


class Cost(NamedTuple):
    """What one interval cost.

    Attributes:
        amount: Cost of each server, shape ``(num_envs,)``; 0 where it was not evaluated.
        evaluated: Whether each server's interval was evaluated, shape ``(num_envs,)``.
    """

    amount: FloatArray
    evaluated: NDArray[np.bool_]


class Price(NamedTuple):
    """State of the loop that prices a cost.

    Attributes:
        value: The price in force.
        integral: Integrated excess, already times the integral gain.
        rate: Smoothed rate of the cost; ``None`` before the first update.
    """

    value: float
    integral: float
    rate: float | None


class Servers:
    """The facts about the servers that costs need, as arrays.

    Args:
        contexts: What a controller knows about each server.

    Attributes:
        warmup_s: Time before throughput is evaluated, shape ``(num_envs,)``.
        scopes: What their power budgets cover.
        last_knobs: Places of the last action's knobs in an observation.
        previous_knobs: Places of the knobs of the action before.
    """

    def __init__(self, contexts: Sequence[ControlContext]) -> None:
        self.warmup_s = np.array([context.qos.warmup_s for context in contexts])
        self.scopes = PowerScopes(contexts)
        index = contexts[0].layout.index
        self.last_knobs = [index(f"last_{knob}") for knob in Knobs._fields]
        self.previous_knobs = [index(f"previous_{knob}") for knob in Knobs._fields]
        caps = [context.grid.power_caps_w for context in contexts]
        self._levels_w = np.full((len(caps), max(map(len, caps))), np.inf)
        for row, levels in zip(self._levels_w, caps, strict=True):
            row[: len(levels)] = levels

    def level_above_w(self, caps_w: FloatArray) -> FloatArray:
        """Returns the next level of each grid above a cap; 0 where there is none."""
        above = np.where(self._levels_w > caps_w[:, None] + 1e-6, self._levels_w, np.inf)
        level = above.min(axis=1)
        return np.where(np.isfinite(level), level, 0.0)


@dataclass(kw_only=True)
class Constraint(Checked, ABC):
    """A cost whose mean rate is to stay below a limit.

    Attributes:
        limit: Highest mean rate of the cost.
        loose: Limit at the start, from which it is tightened; ``None`` for ``limit`` at once.
            A policy under a tight limit from the start stays at the best static choice of knobs.
        tight_from: Fraction of the training after which ``limit`` holds.
        separate: Whether each scenario of the mixture has a price of its own. With one price for
            all, the policy violates persistently where keeping the limit costs the most reward.
        kp: Proportional gain: price per unit of excess rate.
        ki: Integral gain: price per unit of excess rate and update. Keep it slow: a policy
            that is penalised before it has learned to serve stays at the highest knobs.
        kd: Derivative gain on a rising rate.
        smoothing: Weight of the last rate in the smoothed one that the loop sees, 0 to below 1.
        initial: Price at the start.
        lowest: Lowest price.
        highest: Highest price.
    """

    config_key: ClassVar[str] = "constraints"

    limit: Gain = 0.02
    loose: Gain | None = None
    tight_from: PositiveFraction = 0.6
    separate: bool = False
    kp: Gain = 0.0
    ki: Gain = 0.5
    kd: Gain = 0.0
    smoothing: FractionBelowOne = 0.8
    initial: Gain = 1.0
    lowest: Gain = 0.05
    highest: Gain = 6.0

    def __post_init__(self) -> None:
        """Checks that limits and prices are in order."""
        super().__post_init__()
        eased = self.loose is None or self.loose >= self.limit
        self.require(eased, "loose", f"be >= limit ({self.limit})")
        self.require(self.lowest <= self.highest, "lowest", f"be <= highest ({self.highest})")
        ascending = self.lowest <= self.initial <= self.highest
        self.require(ascending, "initial", f"lie in {self.lowest} to {self.highest}")

    @abstractmethod
    def cost(
        self, observations: NDArray[np.floating[Any]], info: dict[str, Any], servers: Servers
    ) -> Cost:
        """Returns what one interval cost.

        Args:
            observations: Encoded observations at its end, shape ``(num_envs, entries)``.
            info: The ``info`` of :class:`envs.simulator.vector.VectorServingEnv`'s step.
            servers: Facts about the servers.
        """

    def start(self, value: float | None = None) -> Price:
        """Returns the price before the first update: ``value``, or :attr:`initial`."""
        price = self.initial if value is None else self._bounded(value)
        return Price(price, price, None)

    def limit_at(self, progress: float) -> float:
        """Returns the limit after a fraction of the training; it falls geometrically."""
        if self.loose is None or self.limit == self.loose or progress >= self.tight_from:
            return self.limit
        fraction = progress / self.tight_from
        if self.limit == 0:
            return self.loose * (1.0 - fraction)
        return float(self.loose * (self.limit / self.loose) ** fraction)

    def update(self, price: Price, rate: float, limit: float | None = None) -> Price:
        """Returns the price after a stretch of training.

        Args:
            price: The price before.
            rate: Mean rate of the cost in the stretch.
            limit: The limit in force; ``None`` for :attr:`limit`.
        """
        before = rate if price.rate is None else price.rate
        smoothed = self.smoothing * before + (1.0 - self.smoothing) * rate
        excess = smoothed - (self.limit if limit is None else limit)
        integral = self._bounded(price.integral + self.ki * excess)
        slope = max(0.0, smoothed - before)
        value = self._bounded(integral + self.kp * excess + self.kd * slope)
        return Price(value, integral, smoothed)

    def _bounded(self, value: float) -> float:
        return min(self.highest, max(self.lowest, value))


@dataclass(kw_only=True)
class ThroughputConstraint(Constraint):
    """Fraction of time in throughput violation, by the reward's definition (``info["cost"]``).

    Baseline, which violations are measured against, ignores power budgets. While a budget leaves no
    higher cap than the requested one, the agent cannot avoid a violation, so the interval is not
    evaluated. A price on it would only make the agent too cautious where there is no budget.
    """

    @override
    def cost(
        self, observations: NDArray[np.floating[Any]], info: dict[str, Any], servers: Servers
    ) -> Cost:
        telemetry: Telemetry = info["telemetry"]
        conditions: Conditions = info["conditions"]
        begins_s = telemetry.time_s - telemetry.duration_s
        evaluated = (begins_s > servers.warmup_s - 1e-6) & (conditions.target_tok_s > 0)
        limit_w = servers.scopes.cap_limit_w(conditions.power_budget_w)
        evaluated &= ~(servers.level_above_w(info["knobs"].power_cap_w) > limit_w * (1.0 + 1e-6))
        return Cost(np.where(evaluated, info["cost"], 0.0), evaluated)


@dataclass(kw_only=True)
class LatencyConstraint(Constraint):
    """Fraction of requests that missed a latency SLO, including unfinished ones already past it."""

    limit: Gain = 0.05

    @override
    def cost(
        self, observations: NDArray[np.floating[Any]], info: dict[str, Any], servers: Servers
    ) -> Cost:
        telemetry: Telemetry = info["telemetry"]
        conditions: Conditions = info["conditions"]
        asked = np.isfinite(conditions.ttft_slo_s) | np.isfinite(conditions.tpot_slo_s)
        count = telemetry.finished + telemetry.slo_overdue
        missed = telemetry.slo_missed + telemetry.slo_overdue
        evaluated = asked & (count > 0)
        return Cost(np.where(evaluated, missed / np.maximum(count, 1.0), 0.0), evaluated)


@dataclass(kw_only=True)
class BudgetConstraint(Constraint):
    """Fraction of time above the power budget.

    Attributes:
        tolerance: Overshoot that is forgiven, as a fraction of the budget.
    """

    tolerance: Gain = 0.01

    @override
    def cost(
        self, observations: NDArray[np.floating[Any]], info: dict[str, Any], servers: Servers
    ) -> Cost:
        telemetry: Telemetry = info["telemetry"]
        budget_w = info["conditions"].power_budget_w
        power_w = servers.scopes.power_w(telemetry.energy_gpu_j / telemetry.duration_s)
        evaluated = np.isfinite(budget_w)
        over = evaluated & (power_w > budget_w * (1.0 + self.tolerance))
        return Cost(over.astype(np.float64), evaluated)


@dataclass(kw_only=True)
class SwitchingConstraint(Constraint):
    """Fraction of intervals in which a knob moved; each move has a cost on a real server."""

    limit: Gain = 0.4

    @override
    def cost(
        self, observations: NDArray[np.floating[Any]], info: dict[str, Any], servers: Servers
    ) -> Cost:
        """Counts an interval that ended an episode as unmoved."""
        last = observations[:, servers.last_knobs]
        moved = (last != observations[:, servers.previous_knobs]).any(axis=1)
        return Cost(moved.astype(np.float64), np.ones(len(moved), dtype=np.bool_))
