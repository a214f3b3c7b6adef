"""Allocators: how a cluster's power budget is split over its nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from envs.context import ControlContext
from envs.fields import Checked
from envs.quantities import Gain

FloatArray = NDArray[np.float64]


class Demands(NamedTuple):
    """What an allocator knows about the nodes, one entry per node.

    Attributes:
        alive: Nodes that answer.
        floor_w: Power of each node at its lowest caps.
        ceiling_w: Power at the highest caps.
        target_tok_s: Target of each node in output tokens/s; 0 when there is no target.
        capacity_tok_s: Output tokens/s of the Baseline strategy at saturation.
        throughput_tok_s: Output tokens/s over the QoS window.
        waiting: Requests waiting.
        power_w: Power drawn in the last interval.
    """

    alive: NDArray[np.bool_]
    floor_w: FloatArray
    ceiling_w: FloatArray
    target_tok_s: FloatArray
    capacity_tok_s: FloatArray
    throughput_tok_s: FloatArray
    waiting: FloatArray
    power_w: FloatArray


class Allocation(NamedTuple):
    """A split of the budget.

    Attributes:
        budget_w: Power budget of each node; 0 for one that does not answer.
        feasible: Whether the split keeps within the cluster's budget.
    """

    budget_w: FloatArray
    feasible: bool


@dataclass(kw_only=True)
class Allocator(Checked, ABC):
    """Splits a budget; the split never exceeds it unless the floors alone do."""

    config_key: ClassVar[str] = "allocator"

    def prepare(self, contexts: Sequence[ControlContext], preparations: Sequence[Any]) -> None:
        """Gets ready before the first interval; by default nothing is needed.

        Args:
            contexts: What each node's controller is told, in the order of the nodes.
            preparations: What each node's controller may ask for beforehand
                (:class:`baselines.base.Preparation`).
        """

    def allocate(self, budget_w: float, demands: Demands) -> Allocation:
        """Splits a power budget over the nodes that answer.

        Every node gets at least its floor, since a server cannot be told to draw less, and at
        most its ceiling. Where the floors alone exceed the budget, all nodes get their floor:
        the least violation there is, reported as infeasible.

        Args:
            budget_w: Power for all nodes together, in watts.
            demands: What is known about the nodes.
        """
        floor = np.where(demands.alive, demands.floor_w, 0.0)
        ceiling = np.where(demands.alive, demands.ceiling_w, 0.0)
        if floor.sum() > budget_w * (1.0 + 1e-9):
            return Allocation(floor, feasible=False)
        wanted = np.where(demands.alive, self.wishes(budget_w, demands), 0.0)
        return Allocation(fit(wanted, floor, ceiling, budget_w), feasible=True)

    @abstractmethod
    def wishes(self, budget_w: float, demands: Demands) -> FloatArray:
        """Returns the power each node should have, in watts, before limits are applied."""


def fit(wanted: FloatArray, floor: FloatArray, ceiling: FloatArray, budget_w: float) -> FloatArray:
    """Scales wishes so that they lie between floor and ceiling and sum up to the budget.

    The power that a node cannot use, or needs in addition, is shared among the others in
    proportion to their wishes (water filling). The sum is the budget, or the sum of all ceilings
    if that is less.

    Args:
        wanted: Wishes in watts, at least 0.
        floor: Least power per node; the floors sum to no more than the budget.
        ceiling: Most power per node.
        budget_w: Power for all nodes.
    """
    if ceiling.sum() <= budget_w:
        return ceiling.copy()
    weights = np.maximum(wanted, 1e-9)
    low, high = 0.0, float(np.max(ceiling / weights))
    for _ in range(64):
        level = 0.5 * (low + high)
        if np.clip(level * weights, floor, ceiling).sum() > budget_w:
            high = level
        else:
            low = level
    return np.clip(low * weights, floor, ceiling)


@dataclass(kw_only=True)
class Uniform(Allocator):
    """The same fraction of the highest power for every node."""

    @override
    def wishes(self, budget_w: float, demands: Demands) -> FloatArray:
        return demands.ceiling_w


@dataclass(kw_only=True)
class Proportional(Allocator):
    """Power in proportion to demand: the target as a fraction of the node's capacity.

    Attributes:
        backlog_gain: Additional weight of a node per waiting request, relative to its weight.
        backlog_limit: Largest additional weight.
    """

    backlog_gain: Gain = 0.01
    backlog_limit: Gain = 1.0

    @override
    def wishes(self, budget_w: float, demands: Demands) -> FloatArray:
        fraction = demands.target_tok_s / np.maximum(demands.capacity_tok_s, 1e-9)
        fraction = np.where(demands.target_tok_s > 0, fraction, 1.0)
        backlog = np.minimum(self.backlog_gain * demands.waiting, self.backlog_limit)
        return demands.ceiling_w * fraction * (1.0 + backlog)


@dataclass(kw_only=True)
class ByAction(Allocator):
    """Power in proportion to weights that an agent's action sets; equal weights until then."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._weights: FloatArray | None = None

    def set_weights(self, weights: FloatArray) -> None:
        """Sets the weights for the coming interval, one per node, at least 0."""
        self._weights = np.maximum(np.asarray(weights, dtype=np.float64), 0.0)

    @override
    def wishes(self, budget_w: float, demands: Demands) -> FloatArray:
        weights = np.ones_like(demands.ceiling_w) if self._weights is None else self._weights
        return demands.ceiling_w * weights
