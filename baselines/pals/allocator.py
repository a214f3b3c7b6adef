"""Splits a cluster's power by each node's predicted marginal efficiency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from baselines.base import Preparation
from baselines.pals.predictor import ForestConfig, PredictionTable, predictor_for
from envs.cluster.allocators import Allocator, Demands
from envs.context import ControlContext
from envs.errors import ConfigurationError
from envs.objectives.objective import power_in_scope
from envs.quantities import Gain

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PowerCurve:
    """Predicted throughput of a node at each power that it may get.

    Attributes:
        budget_w: Power of the node at each cap of its grid, ascending.
        throughput_tok_s: Highest predicted throughput among the knobs with that cap or a
            lower one.
    """

    budget_w: FloatArray
    throughput_tok_s: FloatArray

    def power_for(self, target_tok_s: float) -> float:
        """Returns the least power at which the target is predicted to be reached."""
        enough = np.flatnonzero(self.throughput_tok_s >= target_tok_s)
        return float(self.budget_w[enough[0]] if enough.size else self.budget_w[-1])


def power_curve(context: ControlContext, table: PredictionTable) -> PowerCurve:
    """Returns a node's predicted throughput at each cap with its best batch limit."""
    gpus = context.num_gpus * np.asarray(context.grid.power_caps_w, dtype=np.float64)
    power = power_in_scope(gpus, context.power_scope, context.system_power)
    best = np.maximum.accumulate(table.throughput_tok_s.max(axis=1))
    return PowerCurve(np.asarray(power), best)


@dataclass(kw_only=True)
class Predictive(Allocator):
    """PALS's model at the cluster's level (the division of labour of arXiv:2605.21427 §6).

    Each node's offline model predicts which power its target needs. If the budget covers the
    sum, the rest is spread evenly as headroom. If not, power goes step by step to the node where
    a watt is predicted to gain most of the missing throughput, relative to the node's target.

    Attributes:
        margin: Predicted throughput required beyond the target, as a fraction of it.
        forest: The offline models.
    """

    margin: Gain = 0.05
    forest: ForestConfig = field(default_factory=ForestConfig)

    def prepare(
        self, contexts: Sequence[ControlContext], preparations: Sequence[Preparation]
    ) -> None:
        """Fits every node's model to its profile, as PALS does for its own node."""
        curves = []
        for context, preparation in zip(contexts, preparations, strict=True):
            profile = preparation.profile()
            table = predictor_for(profile, self.forest).tabulate(context.grid, profile)
            curves.append(power_curve(context, table))
        self.set_curves(curves)

    def set_curves(self, curves: list[PowerCurve]) -> None:
        """Takes the nodes' predicted curves, in the order of the nodes."""
        self._curves = curves

    @override
    def wishes(self, budget_w: float, demands: Demands) -> FloatArray:
        """Climbs the predicted curves of the nodes.

        Raises:
            ConfigurationError: No curves were given.
        """
        curves = getattr(self, "_curves", None)
        if curves is None or len(curves) != len(demands.alive):
            raise ConfigurationError(
                "env.allocator: 'predictive' needs one offline profile per node; "
                "python -m experiments.run env=cluster makes them, set_curves() takes them"
            )
        target = np.where(demands.target_tok_s > 0, demands.target_tok_s, demands.capacity_tok_s)
        target = target * (1.0 + self.margin)
        needed = np.array(
            [curve.power_for(goal) for curve, goal in zip(curves, target, strict=True)]
        )
        needed = np.where(demands.alive, needed, 0.0)
        spare = budget_w - needed.sum()
        if spare >= 0:
            ceilings = np.where(demands.alive, demands.ceiling_w, 0.0)
            room = np.maximum(ceilings - needed, 0.0)
            shared: FloatArray = needed + spare * room / max(float(room.sum()), 1e-9)
            return shared
        return self._greedy(budget_w, demands, curves, target)

    def _greedy(
        self, budget_w: float, demands: Demands, curves: list[PowerCurve], target: FloatArray
    ) -> FloatArray:
        """Climbs each node's curve where the next watt gains most of the missing throughput."""
        power = np.where(demands.alive, demands.floor_w, 0.0)
        left = budget_w - power.sum()
        steps = []
        for node, curve in enumerate(curves):
            if not demands.alive[node]:
                continue
            reached = np.minimum(curve.throughput_tok_s, target[node]) / target[node]
            gain = np.diff(reached)
            cost = np.diff(curve.budget_w)
            # A cap whose gain per watt is below that of the next one is skipped.
            for step, rate in enumerate(_concave(gain, cost)):
                steps.append((-rate, step, node, float(cost[step])))
        for rate, _, node, cost_w in sorted(steps):
            if rate == 0.0 or left <= 0.0:
                break
            given = min(cost_w, left)
            power[node] += given
            left -= given
        return power


def _concave(gain: FloatArray, cost: FloatArray) -> FloatArray:
    """Returns the slopes of the concave hull of a curve, per segment of the curve."""
    slopes = np.empty(len(gain))
    start = 0
    while start < len(gain):
        reach = np.cumsum(gain[start:]) / np.cumsum(cost[start:])
        best = int(np.argmax(reach))
        slopes[start : start + best + 1] = reach[best]
        start += best + 1
    return slopes
