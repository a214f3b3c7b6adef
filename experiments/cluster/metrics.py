"""The metrics of a cluster's run: of every node, and of all together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.cluster.cluster import Cluster
from envs.context import ControlContext
from envs.latency import LatencyRecord
from experiments.cluster.rollout import ClusterEpisode, NodeRecord
from experiments.evaluation.metrics import (
    OVERSHOOT_TOLERANCE,
    RunMetrics,
    latency_percentiles,
    ratio,
    summarise,
)
from experiments.evaluation.qos import add_reference, violation_rate
from experiments.evaluation.rollout import Episode

Reference = Callable[[str, int], NDArray[np.float64] | None]
"""Baseline's output tokens per interval on a node's arrivals, given its name and their seed."""


@dataclass(frozen=True, kw_only=True)
class NodeMetrics(RunMetrics):
    """The metrics of one node of a cluster.

    Attributes:
        down_fraction: Fraction of the intervals in which it did not answer.
        restarts: How often it came back.
    """

    down_fraction: float
    restarts: int


@dataclass(frozen=True, kw_only=True)
class ClusterMetrics(RunMetrics):
    """The metrics of a cluster; those of :class:`RunMetrics` are of all nodes together.

    Attributes:
        budget_mean_w: Mean of the budget.
        power_in_scope_mean_w: Mean power of what the budget covers.
        energy_over_budget_j: Energy drawn above the budget.
        infeasible_fraction: Fraction of time in which the lowest caps already exceed the budget.
        down_fraction: Mean of the nodes' fractions; a node that never answered counts as 1.
        events: Failures and returns in words, with their time.
        nodes: Metrics by node; ``None`` for one that never answered.
    """

    budget_mean_w: float
    power_in_scope_mean_w: float
    energy_over_budget_j: float
    infeasible_fraction: float
    down_fraction: float
    events: list[str]
    nodes: Mapping[str, NodeMetrics | None]

    def to_dict(self) -> dict[str, Any]:
        """Returns the metrics by key, those of the nodes as dictionaries, too."""
        nodes = {name: own and own.to_dict() for name, own in self.nodes.items()}
        return {**super().to_dict(), "nodes": nodes}


def evaluate(
    episode: ClusterEpisode, cluster: Cluster, reference: Reference
) -> dict[str, NodeMetrics | None]:
    """Evaluates every node against its own Baseline and returns the nodes' metrics.

    A node's rows get ``reference_tok_s`` and ``violation_reference`` where there is a
    reference. After a failure its arrivals are new ones, and so is the reference. While a node
    with a target is down, it violates QoS.

    Args:
        episode: What happened.
        cluster: The cluster it happened on.
        reference: Gives Baseline's tokens.

    Returns:
        Metrics by node; ``None`` for one that never answered.
    """
    metrics: dict[str, NodeMetrics | None] = {}
    for node in cluster.nodes:
        record, context = episode.nodes[node.name], node.env.context
        for segment in record.segments:
            tokens = reference(node.name, segment.seed)
            if tokens is not None:
                add_reference(segment.table, tokens, context.qos, context.interval_s)
        metrics[node.name] = _node(record, context) if record.segments else None
    return metrics


def _node(record: NodeRecord, context: ControlContext) -> NodeMetrics:
    table = record.table
    answered = summarise(Episode(table, record.latency, record.power_source or ""), context)
    down = sum(context.qos.evaluates(number * context.interval_s) for number in record.down)
    return NodeMetrics(
        **{
            **answered.to_dict(),
            "qos_violation_rate": violation_rate(table, "reference", context.qos, down),
            "qos_violation_rate_backlog": violation_rate(table, "backlog", context.qos, down),
            "qos_violation_rate_plain": violation_rate(table, "plain", context.qos, down),
        },
        down_fraction=len(record.down) / (len(table) + len(record.down)),
        restarts=len(record.segments) - 1,
    )


def summarise_cluster(
    episode: ClusterEpisode, cluster: Cluster, nodes: Mapping[str, NodeMetrics | None]
) -> ClusterMetrics:
    """Returns a cluster's metrics.

    Tokens, energy and requests are sums; QoS, cap binding, reward and cost are means over
    nodes; latencies are those of all requests together. A node that is down counts with no
    power: what it draws then is not known.

    Args:
        episode: What happened.
        cluster: The cluster.
        nodes: What :func:`evaluate` returned.
    """
    known = [own for own in nodes.values() if own is not None]
    table, budget_w = episode.table, episode.table["budget_w"]
    gap_w = table["power_w"] - budget_w
    duration_s = len(table) * cluster.interval_s
    prompt, output = sum(n.prompt_tokens for n in known), sum(n.output_tokens for n in known)
    gpu_j, system_j = sum(n.energy_gpu_j for n in known), sum(n.energy_system_j for n in known)
    latency = _merged_latency(episode)
    down = [1.0 if own is None else own.down_fraction for own in nodes.values()]
    asks_latency = any(n.slo_violation_rate is not None for n in known)
    return ClusterMetrics(
        duration_s=duration_s,
        prompt_tokens=prompt,
        output_tokens=output,
        energy_gpu_j=gpu_j,
        energy_system_j=system_j,
        tokens_per_joule=ratio(prompt + output, gpu_j),
        tokens_per_joule_system=ratio(prompt + output, system_j),
        output_tokens_per_joule=ratio(output, gpu_j),
        throughput_tok_s=output / duration_s,
        qos_violation_rate=_mean([n.qos_violation_rate for n in known]),
        qos_violation_rate_backlog=_mean([n.qos_violation_rate_backlog for n in known]),
        qos_violation_rate_plain=_mean([n.qos_violation_rate_plain for n in known]),
        slo_violation_rate=latency.slo_violation_rate if asks_latency else None,
        **latency_percentiles(latency),
        power_mean_w=gpu_j / duration_s,
        cap_binding_fraction=_mean([n.cap_binding_fraction for n in known]),
        knob_changes=sum(n.knob_changes for n in known),
        requests_arrived=sum(n.requests_arrived for n in known),
        requests_finished=sum(n.requests_finished for n in known),
        requests_rejected=sum(n.requests_rejected for n in known),
        requests_running=sum(n.requests_running for n in known),
        requests_waiting=sum(n.requests_waiting for n in known),
        preemptions=sum(n.preemptions for n in known),
        prefix_cache_hit_rate=_mean([n.prefix_cache_hit_rate for n in known]),
        reward_mean=_mean([n.reward_mean for n in known]),
        cost_mean=_mean([n.cost_mean for n in known]),
        target_mean_tok_s=sum(n.target_mean_tok_s or 0.0 for n in known) or None,
        capacity_tok_s=sum(n.capacity_tok_s for n in known),
        offered_tok_s=sum(n.offered_tok_s for n in known),
        num_gpus=sum(n.num_gpus for n in known),
        power_source="+".join(sorted({n.power_source for n in known})),
        power_tracking_error_w=float(np.abs(gap_w).mean()),
        power_overshoot_mean_w=float(np.maximum(gap_w, 0.0).mean()),
        budget_overshoot_rate=float((gap_w > OVERSHOOT_TOLERANCE * budget_w).mean()),
        budget_mean_w=float(budget_w.mean()),
        power_in_scope_mean_w=float(table["power_w"].mean()),
        energy_over_budget_j=float(np.maximum(gap_w, 0.0).sum() * cluster.interval_s),
        infeasible_fraction=float(1.0 - table["feasible"].mean()),
        down_fraction=float(np.mean(down)),
        events=[f"{time_s:g} s: {text}" for time_s, text in episode.events],
        nodes=dict(nodes),
    )


def _merged_latency(episode: ClusterEpisode) -> LatencyRecord:
    """Returns the latencies of all nodes' requests together."""
    records = [record.latency for record in episode.nodes.values()]
    return LatencyRecord(
        ttft=np.sum([record.ttft for record in records], axis=0),
        tpot=np.sum([record.tpot for record in records], axis=0),
        e2e=np.sum([record.e2e for record in records], axis=0),
        finished=sum(record.finished for record in records),
        slo_missed=sum(record.slo_missed for record in records),
        slo_overdue=sum(record.slo_overdue for record in records),
    )


def _mean(values: list[Any]) -> float | None:
    given = [value for value in values if value is not None]
    return float(np.mean(given)) if given else None
