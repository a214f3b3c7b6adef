"""Constraints of safe training: a cost, its limit, and the PID loop that prices it.

The price (Lagrange multiplier) of a cost rises while its rate is above the limit and falls
while it is below: Stooke, Achiam and Abbeel, "Responsive Safety in Reinforcement Learning by
PID Lagrangian Methods", ICML 2020, algorithm 2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.conditions import Conditions
from envs.context import ControlContext
from envs.errors import ConfigurationError
from envs.objective import power_in_scope
from envs.telemetry import Telemetry

FloatArray = NDArray[np.float64]


class Cost(NamedTuple):
    """What one interval cost.

    Attributes:
        amount: Cost of each server, shape ``(num_envs,)``; 0 where none is judged.
        judged: Whether each server's interval was judged, shape ``(num_envs,)``.
    """

    amount: FloatArray
    judged: NDArray[np.bool_]


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


@dataclass(kw_only=True)
class Constraint(ABC):
    """A cost whose mean rate is to stay below a limit.

    Attributes:
        limit: Highest mean rate of the cost.
        kp: Proportional gain: price per unit of excess rate.
        ki: Integral gain: price per unit of excess rate and update. Keep it slow: a policy
            that is punished before it has learned to serve freezes at the highest knobs.
        kd: Derivative gain on a rising rate.
        smoothing: Weight of the last rate in the smoothed one that the loop sees, 0 to below 1.
        initial: Price at the start.
        lowest: Lowest price.
        highest: Highest price.
    """

    limit: float = 0.02
    kp: float = 0.0
    ki: float = 0.5
    kd: float = 0.0
    smoothing: float = 0.8
    initial: float = 1.0
    lowest: float = 0.05
    highest: float = 6.0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: A value is out of range.
        """
        for key in ("limit", "kp", "ki", "kd", "lowest"):
            if not getattr(self, key) >= 0:
                raise ConfigurationError(
                    f"constraints.{key}: must be >= 0, got {getattr(self, key)}"
                )
        if not 0 <= self.smoothing < 1:
            raise ConfigurationError(
                f"constraints.smoothing: must be in [0, 1), got {self.smoothing}"
            )
        if not self.lowest <= self.initial <= self.highest:
            raise ConfigurationError(
                "constraints.lowest, initial, highest: must ascend, "
                f"got {self.lowest}, {self.initial}, {self.highest}"
            )

    @abstractmethod
    def cost(self, info: dict[str, Any], contexts: Sequence[ControlContext]) -> Cost:
        """Returns what one interval cost.

        Args:
            info: The ``info`` of :class:`envs.vector.VectorServingEnv`'s step.
            contexts: What a controller of each server is told.
        """

    def start(self) -> Price:
        """Returns the price before the first update."""
        return Price(self.initial, self.initial, None)

    def update(self, price: Price, rate: float) -> Price:
        """Returns the price after a stretch of training with this mean rate of the cost."""
        before = rate if price.rate is None else price.rate
        smoothed = self.smoothing * before + (1.0 - self.smoothing) * rate
        excess = smoothed - self.limit
        integral = self._bounded(price.integral + self.ki * excess)
        slope = max(0.0, smoothed - before)
        value = self._bounded(integral + self.kp * excess + self.kd * slope)
        return Price(value, integral, smoothed)

    def _bounded(self, value: float) -> float:
        return min(self.highest, max(self.lowest, value))


@dataclass(kw_only=True)
class ThroughputConstraint(Constraint):
    """Share of time in throughput violation, in the reward's reading (``info["cost"]``).

    Baseline, which violations are read against, ignores power budgets. While a budget leaves no
    higher cap than the one that is asked for, a violation is therefore nobody's choice: it is
    not judged. Priced, it would only teach timidity where there is no budget.
    """

    def cost(self, info: dict[str, Any], contexts: Sequence[ControlContext]) -> Cost:
        """See :meth:`Constraint.cost`."""
        telemetry: Telemetry = info["telemetry"]
        conditions: Conditions = info["conditions"]
        warmup_s = np.array([context.qos.warmup_s for context in contexts])
        begins_s = telemetry.time_s - telemetry.duration_s
        judged = (begins_s > warmup_s - 1e-6) & (conditions.target_tok_s > 0)
        judged &= ~_at_budget(info["knobs"].power_cap_w, conditions.power_budget_w, contexts)
        return Cost(np.where(judged, info["cost"], 0.0), judged)


def _at_budget(
    caps_w: FloatArray, budgets_w: FloatArray, contexts: Sequence[ControlContext]
) -> NDArray[np.bool_]:
    """Returns whether a power budget leaves no level of the lattice above the cap asked for."""
    held = np.zeros(len(contexts), dtype=np.bool_)
    for index in np.flatnonzero(np.isfinite(budgets_w)).tolist():
        context = contexts[index]
        limit_w = float(context.cap_limit_w(budgets_w[index]))
        levels = context.lattice.power_caps_w
        above = next((level for level in levels if level > caps_w[index] + 1e-6), None)
        held[index] = above is not None and above > limit_w * (1.0 + 1e-6)
    return held


@dataclass(kw_only=True)
class LatencyConstraint(Constraint):
    """Share of requests that missed a latency SLO, unfinished ones past it included."""

    limit: float = 0.05

    def cost(self, info: dict[str, Any], contexts: Sequence[ControlContext]) -> Cost:
        """See :meth:`Constraint.cost`."""
        telemetry: Telemetry = info["telemetry"]
        conditions: Conditions = info["conditions"]
        asked = np.isfinite(conditions.ttft_slo_s) | np.isfinite(conditions.tpot_slo_s)
        count = telemetry.finished + telemetry.slo_overdue
        missed = telemetry.slo_missed + telemetry.slo_overdue
        judged = asked & (count > 0)
        return Cost(np.where(judged, missed / np.maximum(count, 1.0), 0.0), judged)


@dataclass(kw_only=True)
class BudgetConstraint(Constraint):
    """Share of time above the power budget.

    Attributes:
        tolerance: Overshoot that is forgiven, as a share of the budget.
    """

    tolerance: float = 0.01

    def cost(self, info: dict[str, Any], contexts: Sequence[ControlContext]) -> Cost:
        """See :meth:`Constraint.cost`."""
        telemetry: Telemetry = info["telemetry"]
        budget_w = info["conditions"].power_budget_w
        gpus_w = telemetry.energy_gpu_j / telemetry.duration_s
        power_w = np.array(
            [
                power_in_scope(watts, context.power_scope, context.system_power)
                for watts, context in zip(gpus_w, contexts, strict=True)
            ]
        )
        judged = np.isfinite(budget_w)
        over = judged & (power_w > budget_w * (1.0 + self.tolerance))
        return Cost(over.astype(np.float64), judged)
