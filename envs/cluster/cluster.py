"""Servers in lockstep under one power budget."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.arguments import expect, expect_whole
from envs.cluster.allocators import Allocation, Allocator, Demands
from envs.cluster.node import Node
from envs.errors import ActionError, ConfigurationError, PalsError
from envs.fields import Checked, OneOf, Part
from envs.knobs import Knobs
from envs.objectives.signals import Signal, as_signal
from envs.quantities import Positive, SecondsOrNone


class ClusterState(NamedTuple):
    """What a cluster knows after an interval.

    Attributes:
        budget_w: Budget of the interval that has passed, over all nodes.
        power_w: Mean power of all nodes over it.
        next_budget_w: Budget of the interval to come.
        announced_budget_w: Budget at the end of the notice time.
        allocation_w: Power budget of each node in the interval to come.
        feasible: Whether the nodes' least power fits the budget to come.
        events: Failures and recoveries of nodes, such as ``"node1 down: ServerDied: ..."``.
    """

    budget_w: float
    power_w: float
    next_budget_w: float
    announced_budget_w: float
    allocation_w: tuple[float, ...]
    feasible: bool
    events: tuple[str, ...]


@dataclass(kw_only=True)
class ClusterBudget(Checked):
    """The power a cluster may draw.

    Attributes:
        signal: Watts over time, or a fraction of the highest power of all nodes.
        unit: ``w`` or ``fraction``.
        notice_s: Time in seconds by which the cluster knows of a change in advance. The
            allocation falls in time for an announced drop.
        ramp_w_per_s: Fastest rise of the budget, in watts per second; ``None`` lets every change
            take effect at once. Drops are never delayed.
    """

    config_key: ClassVar[str] = "env.budget"

    signal: Annotated[Any, Part("signal")]
    unit: Annotated[str, OneOf("w", "fraction")] = "w"
    notice_s: SecondsOrNone = 0.0
    ramp_w_per_s: Positive | None = None

    def __post_init__(self) -> None:
        """Checks that the signal is one, and never below 0."""
        super().__post_init__()
        self.signal = as_signal(self.signal)
        self.require(isinstance(self.signal, Signal), "signal", "be a signal or a number")
        lowest = self.signal.lowest()
        self.require(lowest is None or lowest >= 0, "signal", f"be >= 0, not {lowest}")

    def schedule(
        self, highest_w: float, rng: np.random.Generator, intervals: int, interval_s: float
    ) -> NDArray[np.float64]:
        """Returns the budget of every interval in watts, ramps applied.

        Args:
            highest_w: Highest power of all nodes, for the unit ``fraction``.
            rng: Source of the random draws of random signals.
            intervals: Number of intervals; some more are laid out for the notice time.
            interval_s: Length of an interval in seconds.
        """
        ahead = round(self.notice_s / interval_s)
        times = np.arange(intervals + ahead + 1, dtype=np.float64) * interval_s
        signal: Signal = self.signal
        watts = signal.values(times, rng) * (highest_w if self.unit == "fraction" else 1.0)
        if self.ramp_w_per_s is not None:
            stride = self.ramp_w_per_s * interval_s
            for index in range(1, len(watts)):
                watts[index] = min(watts[index], watts[index - 1] + stride)
        return watts


def node_seeds(seed: int, nodes: int) -> list[int]:
    """Returns the seed of every node's episode in an episode of the cluster."""
    sequence = np.random.SeedSequence([seed, nodes])
    return [int(value) for value in sequence.generate_state(nodes)]


class Cluster:
    """Nodes in lockstep: in every interval the budget is split, then each node takes its step.

    Caps are clipped to the node's budget, so the sum of all caps, with the nodes' overhead
    where the budget covers it, keeps within the budget as soon as lowered caps have settled.

    Args:
        nodes: The nodes; they must share interval and power scope.
        budget: The cluster's budget.
        allocator: Splits it.
        intervals: Number of intervals the budget is laid out for; later it repeats.
        concurrent: Whether the nodes step at the same time, in threads; for live or remote ones.

    Raises:
        ConfigurationError: There is no node, or nodes do not go together.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        budget: ClusterBudget,
        allocator: Allocator,
        intervals: int,
        *,
        concurrent: bool = False,
    ) -> None:
        expect("nodes", nodes, Sequence)
        for index, node in enumerate(nodes):
            expect(f"nodes[{index}]", node, Node)
        expect("budget", budget, ClusterBudget)
        expect("allocator", allocator, Allocator)
        expect_whole("intervals", intervals, 1)
        if not nodes:
            raise ConfigurationError("env.nodes: a cluster needs at least one node")
        for what, values in (
            ("interval", {node.env.interval_s for node in nodes}),
            ("objective.power_scope", {node.env.context.power_scope for node in nodes}),
        ):
            if len(values) > 1:
                raise ConfigurationError(
                    f"env.nodes: all nodes need the same {what}, got {sorted(values)}"
                )
        if len({node.name for node in nodes}) < len(nodes):
            raise ConfigurationError("env.nodes: two nodes have the same name")
        self.nodes = list(nodes)
        self.allocator = allocator
        self.interval_s = nodes[0].env.interval_s
        self.highest_w = sum(node.ceiling_w for node in nodes)
        self._budget = budget
        self._intervals = intervals
        self._ahead = round(budget.notice_s / self.interval_s)
        self._table = np.zeros(1)
        self._interval = 0
        self._floor = np.array([node.floor_w for node in nodes])
        self._ceiling = np.array([node.ceiling_w for node in nodes])
        self._capacity = np.array([node.env.context.capacity_tok_s for node in nodes])
        self._pool = ThreadPoolExecutor(len(nodes)) if concurrent else None

    def reset(self, seed: int) -> ClusterState:
        """Starts an episode on every node; all its random draws follow from ``seed``."""
        budget_rng = np.random.default_rng(seed)
        self._table = self._budget.schedule(
            self.highest_w, budget_rng, self._intervals, self.interval_s
        )
        self._interval = 0
        seeds = node_seeds(seed, len(self.nodes))
        self._each(lambda item: item[0].reset(item[1]), list(zip(self.nodes, seeds, strict=True)))
        return self.fraction(0.0, 0.0, self._failures([True] * len(self.nodes)))

    def step(self, actions: Sequence[Any]) -> ClusterState:
        """Lets one interval pass on every node and splits the budget of the next one.

        Args:
            actions: One action per node, in the form that its action encoding takes.

        Raises:
            ActionError: An action is outside its node's space; no node has taken its step then.
        """
        return self.step_to(self.decode(actions))

    def step_to(self, knobs: Sequence[Knobs | None]) -> ClusterState:
        """Does what :meth:`step` does, with the knobs that :meth:`decode` gave."""
        before = [node.alive for node in self.nodes]
        budget_w = self._at(self._interval)
        self._each(lambda item: item[0].step(item[1]), list(zip(self.nodes, knobs, strict=True)))
        self._interval += 1
        power_w = sum(node.power_w for node in self.nodes)
        return self.fraction(budget_w, power_w, self._failures(before))

    def decode(self, actions: Sequence[Any]) -> list[Knobs | None]:
        """Returns the knobs that each node's action asks for; ``None`` for those that are down.

        Raises:
            ActionError: One is outside its node's space, or there is not one for each node.
        """
        if len(actions) != len(self.nodes):
            raise ActionError(
                f"action: must be one for each of the {len(self.nodes)} nodes, got {len(actions)}"
            )
        return [node.decode(action) for node, action in zip(self.nodes, actions, strict=True)]

    def close(self) -> None:
        """Releases all nodes, even if one of them fails; each restores the knobs it changed.

        Raises:
            PalsError: A node could not be released.
        """
        failures = []
        for node in self.nodes:
            try:
                node.env.close()
            except PalsError as error:
                failures.append(error)
        if self._pool is not None:
            self._pool.shutdown()
        if failures:
            raise type(failures[0])("; ".join(map(str, failures)))

    def demands(self) -> Demands:
        """Returns what the allocator may know about the nodes."""
        infos = [node.info for node in self.nodes]
        conditions = [info.get("conditions") for info in infos]
        telemetry = [info.get("telemetry") for info in infos]
        return Demands(
            alive=np.array([node.alive for node in self.nodes]),
            floor_w=self._floor,
            ceiling_w=self._ceiling,
            target_tok_s=np.array([c.target_tok_s if c else 0.0 for c in conditions]),
            capacity_tok_s=self._capacity,
            throughput_tok_s=np.array([info.get("throughput_tok_s", 0.0) for info in infos]),
            waiting=np.array([t.waiting if t else 0.0 for t in telemetry]),
            power_w=np.array([node.power_w for node in self.nodes]),
        )

    def fraction(
        self, budget_w: float = 0.0, power_w: float = 0.0, events: tuple[str, ...] = ()
    ) -> ClusterState:
        """Splits the budget of the interval to come over the nodes and sets their budgets.

        Args:
            budget_w: Budget of the interval that has passed, for the state returned.
            power_w: Power drawn in it.
            events: What happened in it.
        """
        coming = self._at(self._interval)
        announced = min(self._at(self._interval + ahead) for ahead in range(self._ahead + 1))
        # Caps settle within one interval, so an announced drop is met in time.
        due = min(coming, self._at(self._interval + 1)) if self._ahead else coming
        allocation: Allocation = self.allocator.allocate(due, self.demands())
        for node, watts in zip(self.nodes, allocation.budget_w.tolist(), strict=True):
            node.give(watts)
        return ClusterState(
            budget_w=budget_w,
            power_w=power_w,
            next_budget_w=coming,
            announced_budget_w=announced,
            allocation_w=tuple(allocation.budget_w.tolist()),
            feasible=allocation.feasible,
            events=events,
        )

    def _at(self, interval: int) -> float:
        return float(self._table[interval % len(self._table)])

    def _failures(self, before: list[bool]) -> tuple[str, ...]:
        events = []
        for node, was_alive in zip(self.nodes, before, strict=True):
            if was_alive and not node.alive:
                events.append(f"{node.name} down: {node.error}")
            elif node.alive and not was_alive:
                events.append(f"{node.name} back")
        return tuple(events)

    def _each(self, function: Any, items: Sequence[Any]) -> None:
        if self._pool is None:
            for item in items:
                function(item)
            return
        for future in [self._pool.submit(function, item) for item in items]:
            future.result()
