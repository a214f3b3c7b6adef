"""The figures of a cluster's run: of every node, and of all together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.cluster.cluster import Cluster
from envs.context import ControlContext
from envs.latency import LatencyRecord, percentile
from experiments.cluster.rollout import ClusterEpisode, NodeRecord
from experiments.evaluation.metrics import OVERSHOOT_TOLERANCE, Summary, summarise
from experiments.evaluation.qos import add_reference, after_warmup
from experiments.evaluation.rollout import Episode
from experiments.records.interval_table import IntervalTable

Reference = Callable[[str, int], NDArray[np.float64] | None]
"""Baseline's output tokens per interval on a node's arrivals, given its name and their seed."""
_SUMS = (
    "prompt_tokens", "output_tokens", "energy_gpu_j", "energy_system_j", "requests_arrived",
    "requests_finished", "requests_rejected", "requests_running", "requests_waiting",
    "preemptions", "knob_changes", "capacity_tok_s", "offered_tok_s", "num_gpus",
)  # fmt: skip
_MEANS = (
    "qos_violation_rate", "qos_violation_rate_backlog", "qos_violation_rate_plain",
    "cap_binding_fraction", "reward_mean", "cost_mean",
)  # fmt: skip
_READINGS = {
    "qos_violation_rate": "violation_reference",
    "qos_violation_rate_backlog": "violation_backlog",
    "qos_violation_rate_plain": "violation_plain",
}


def evaluate(
    episode: ClusterEpisode, cluster: Cluster, reference: Reference
) -> dict[str, Summary | None]:
    """Evaluates every node against its own Baseline and returns the nodes' figures.

    A node's rows get ``reference_tok_s`` and ``violation_reference`` where a reference is to be
    had. After a failure its arrivals are new ones, and so is the reference. While a node with
    a target is down, it violates QoS.

    Args:
        episode: What happened.
        cluster: The cluster it happened on.
        reference: Gives Baseline's tokens.

    Returns:
        Figures by node; ``None`` for one that never answered.
    """
    figures: dict[str, Summary | None] = {}
    for node in cluster.nodes:
        record, context = episode.nodes[node.name], node.env.context
        for segment in record.segments:
            tokens = reference(node.name, segment.seed)
            if tokens is not None:
                add_reference(segment.table, tokens, context.qos, context.interval_s)
        figures[node.name] = _figures(record, context) if record.segments else None
    return figures


def _figures(record: NodeRecord, context: ControlContext) -> Summary:
    table = record.table
    known = Episode(table, record.latency, record.power_source or "")
    summary = summarise(known, context)
    warmup = context.qos.warmup_s
    down = sum(number * context.interval_s > warmup - 1e-6 for number in record.down)
    evaluated = after_warmup(table, context.qos)
    for key, column in _READINGS.items():
        if summary[key] is not None:
            violated = float(table[column][evaluated].sum()) + down
            summary[key] = violated / (int(evaluated.sum()) + down)
    total = len(table) + len(record.down)
    summary["down_fraction"] = len(record.down) / total
    summary["restarts"] = len(record.segments) - 1
    return summary


def summarise_cluster(
    episode: ClusterEpisode, cluster: Cluster, nodes: Mapping[str, Summary | None]
) -> Summary:
    """Returns a cluster's figures with the keys of a single server's, and its own.

    Tokens, energy and requests are sums; QoS, cap binding, reward and cost are means over
    nodes; latencies are those of all requests together. A node that is down counts with no
    power: what it draws then is not known.

    Args:
        episode: What happened.
        cluster: The cluster.
        nodes: What :func:`evaluate` returned.
    """
    known = [summary for summary in nodes.values() if summary is not None]
    table = episode.table
    duration_s = len(table) * cluster.interval_s
    sums = {key: sum(summary[key] for summary in known) for key in _SUMS}
    tokens = sums["prompt_tokens"] + sums["output_tokens"]
    return {
        "duration_s": duration_s,
        **sums,
        "tokens_per_joule": _ratio(tokens, sums["energy_gpu_j"]),
        "tokens_per_joule_system": _ratio(tokens, sums["energy_system_j"]),
        "output_tokens_per_joule": _ratio(sums["output_tokens"], sums["energy_gpu_j"]),
        "throughput_tok_s": sums["output_tokens"] / duration_s,
        **{key: _mean([summary[key] for summary in known]) for key in _MEANS},
        **_latency(episode, known),
        "power_mean_w": sums["energy_gpu_j"] / duration_s,
        "target_mean_tok_s": sum(summary["target_mean_tok_s"] or 0.0 for summary in known) or None,
        "power_source": "+".join(sorted({summary["power_source"] for summary in known})),
        **_budget(table, cluster.interval_s),
        "down_fraction": float(
            np.mean([1.0 if s is None else s["down_fraction"] for s in nodes.values()])
        ),
        "events": [f"{time_s:g} s: {text}" for time_s, text in episode.events],
        "nodes": dict(nodes),
    }


def _latency(episode: ClusterEpisode, known: list[Summary]) -> Summary:
    records = [record.latency for record in episode.nodes.values()]
    merged = LatencyRecord(
        *(sum(getattr(record, name) for record in records) for name in ("ttft", "tpot", "e2e")),
        *(
            sum(getattr(record, name) for record in records)
            for name in ("finished", "slo_missed", "slo_overdue")
        ),
    )
    asked = any(summary["slo_violation_rate"] is not None for summary in known)
    return {
        "slo_violation_rate": merged.slo_violation_rate if asked else None,
        **{
            f"{name}_p{q}_s": percentile(getattr(merged, name), q)
            for name in ("ttft", "tpot", "e2e")
            for q in (50, 99)
        },
    }


def _budget(table: IntervalTable, interval_s: float) -> Summary:
    """Returns how well the cluster kept to its budget, in the budget's scope."""
    gap = table["power_w"] - table["budget_w"]
    over = gap > OVERSHOOT_TOLERANCE * table["budget_w"]
    return {
        "budget_mean_w": float(table["budget_w"].mean()),
        "power_in_scope_mean_w": float(table["power_w"].mean()),
        "power_tracking_error_w": float(np.abs(gap).mean()),
        "power_overshoot_mean_w": float(np.maximum(gap, 0.0).mean()),
        "energy_over_budget_j": float(np.maximum(gap, 0.0).sum() * interval_s),
        "budget_overshoot_rate": float(over.mean()),
        "infeasible_fraction": float(1.0 - table["feasible"].mean()),
    }


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None


def _mean(values: list[Any]) -> float | None:
    given = [value for value in values if value is not None]
    return float(np.mean(given)) if given else None
