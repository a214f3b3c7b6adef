"""One episode of a cluster: every node under its own controller, all under one budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.base import Controller
from envs.cluster.cluster import Cluster, ClusterState
from envs.cluster.node import Node
from envs.errors import PalsError
from envs.latency import LatencyRecord
from experiments.evaluation.decisions import DecisionClock, Decisions
from experiments.records.interval_table import IntervalTable, Row, interval_row

OnClusterInterval = Callable[[int, Row], None]


@dataclass
class Segment:
    """A time span in which a node answered without a break.

    Attributes:
        seed: Seed of the node's arrivals in it.
        first: Number of the interval that it begins with.
        table: One row per interval.
    """

    seed: int
    first: int
    table: IntervalTable = field(default_factory=IntervalTable)


@dataclass
class NodeRecord:
    """What happened on one node.

    Attributes:
        segments: Time spans in which it answered.
        down: Numbers of the intervals in which it did not.
        latency: Latencies since it last started; those before a failure are lost with it.
        power_source: Whether its power was measured or modelled.
        decisions: How long its controller took, and what it tells.
    """

    segments: list[Segment] = field(default_factory=list)
    down: list[int] = field(default_factory=list)
    latency: LatencyRecord = field(default_factory=LatencyRecord)
    power_source: str | None = None
    decisions: Decisions = field(default_factory=Decisions)

    @property
    def table(self) -> IntervalTable:
        """All intervals in which the node answered."""
        return IntervalTable.concatenate([segment.table for segment in self.segments])

    @property
    def intervals(self) -> NDArray[np.int64]:
        """Numbers of these intervals, shape ``(rows of the table,)``."""
        return np.concatenate(
            [
                np.zeros(0, dtype=np.int64),
                *(segment.first + np.arange(len(segment.table)) for segment in self.segments),
            ]
        )


@dataclass(frozen=True)
class ClusterEpisode:
    """What happened in one episode of a cluster.

    Attributes:
        nodes: One record per node, by name.
        table: The cluster's own numbers, one row per interval.
        events: ``(time_s, text)`` of failures and returns.
    """

    nodes: dict[str, NodeRecord]
    table: IntervalTable
    events: list[tuple[float, str]]


def node_series(episode: ClusterEpisode, name: str, column: str) -> NDArray[np.float64]:
    """Returns a column of a node over the whole run, NaN while it is down."""
    values = np.full(len(episode.table), np.nan)
    record = episode.nodes[name]
    table = record.table
    if column in table:
        values[record.intervals] = table[column]
    return values


def run_cluster_episode(
    cluster: Cluster,
    controllers: Sequence[Controller],
    *,
    seed: int,
    duration_s: float,
    on_interval: OnClusterInterval | None = None,
) -> ClusterEpisode:
    """Lets one controller per node run a cluster; nodes that fail do not end it.

    Args:
        cluster: The cluster.
        controllers: One bound and prepared controller per node, in the nodes' order.
        seed: Seed of the episode.
        duration_s: Length of the episode in seconds.
        on_interval: Called after every interval with its number and the cluster's row, with
            each node's row as ``<node>/<column>``.
    """
    state = cluster.reset(seed)
    records = {node.name: NodeRecord() for node in cluster.nodes}
    events = [(0.0, text) for text in state.events]
    table = IntervalTable()
    drivers = [_Driver(controller) for controller in controllers]
    for interval in range(max(1, round(duration_s / cluster.interval_s))):
        actions = [driver.action(node) for driver, node in zip(drivers, cluster.nodes, strict=True)]
        asked, state = state, cluster.step(actions)
        time_s = (interval + 1) * cluster.interval_s
        events.extend((time_s, text) for text in state.events)
        row = _cluster_row(time_s, asked, state)
        table.append(row)
        shown = dict(row)
        for node in cluster.nodes:
            own = _record(records[node.name], node, interval)
            shown.update({f"{node.name}/{key}": value for key, value in (own or {}).items()})
        if on_interval is not None:
            on_interval(interval, shown)
    for driver, node in zip(drivers, cluster.nodes, strict=True):
        records[node.name].decisions = driver.clock.finish()
        if node.alive:
            records[node.name].latency = _latency(node)
    return ClusterEpisode(records, table, events)


class _Driver:
    """A controller and its memory; both begin again when their node has been down."""

    def __init__(self, controller: Controller) -> None:
        self.clock = DecisionClock(controller)
        self._seed: int | None = None

    def action(self, node: Node) -> Any:
        """Returns the node's next action; ``None`` while it is down."""
        if not node.alive:
            self._seed = None
            return None
        start = np.array([self._seed != node.seed])
        self._seed = node.seed
        return self.clock.decide(node.observation, start)


def _cluster_row(time_s: float, asked: ClusterState, state: ClusterState) -> Row:
    return {
        "time_s": time_s,
        "budget_w": state.budget_w,
        "power_w": state.power_w,
        "allocated_w": float(sum(asked.allocation_w)),
        "announced_budget_w": asked.announced_budget_w,
        "feasible": float(asked.feasible),
    }


def _record(record: NodeRecord, node: Node, interval: int) -> Row | None:
    """Adds an interval to a node's record; returns its row, or ``None`` while it is down."""
    if not node.alive or "knobs" not in node.info:  # down, or only just back
        record.down.append(interval)
        return None
    row = interval_row(node.reward, node.info)
    for name, value in node.env.system.extras.items():
        row[name] = float(value)
    if not record.segments or record.segments[-1].seed != node.seed:
        record.segments.append(Segment(node.seed, interval))
    record.segments[-1].table.append(row)
    record.power_source = node.info["telemetry"].power_source
    return row


def _latency(node: Node) -> LatencyRecord:
    try:
        return node.env.system.latency()
    except PalsError:
        return LatencyRecord()  # it failed after its last interval
