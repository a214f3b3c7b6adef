"""The plot of a cluster's run: budget, split, throughput and queues over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from envs.cluster.cluster import Cluster
from envs.objectives.objective import power_in_scope
from experiments.cluster.rollout import ClusterEpisode, node_series
from experiments.reporting.plot_style import (
    BLACK,
    GREEN,
    RED,
    distinct_colors,
    optional_plot,
    saved_plot,
)

_MOST_SHOWN = 24
"""Nodes that are drawn one by one; of a larger cluster the first ones are."""


@optional_plot
def draw_cluster(episode: ClusterEpisode, cluster: Cluster, file: Path, title: str) -> None:
    """Draws an episode of a cluster.

    Args:
        episode: What happened.
        cluster: The cluster it happened on.
        file: Where the PNG goes.
        title: Name of the controllers.
    """
    time = episode.table["time_s"]
    with saved_plot(file, 4, 1, (8.5, 9.5), sharex=True) as (figure, axes):
        _total(axes[0], episode)
        _power(axes[1], episode, cluster, time)
        _throughput(axes[2], episode, cluster, time)
        _queues(axes[3], episode, cluster, time)
        for axis in axes:
            for time_s, text in episode.events:
                axis.axvline(time_s, color=RED if " down" in text else GREEN, lw=0.8, ls=":")
            axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        axes[-1].set_xlabel("Time in s (dotted: a node fails or comes back)")
        axes[-1].set_xlim(0.0, float(time[-1]))
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")


def _total(axis: Any, episode: ClusterEpisode) -> None:
    table = episode.table
    axis.set_title("Power of all nodes, W (what the budget covers)")
    axis.plot(table["time_s"], table["power_w"], color=RED, lw=1.0, label="drawn")
    axis.plot(table["time_s"], table["budget_w"], color=BLACK, ls="--", label="budget")
    impossible = table["feasible"] < 1
    if impossible.any():
        axis.fill_between(
            table["time_s"], 0, table["budget_w"].max(), where=impossible, step="pre", color=RED,
            alpha=0.18, lw=0, label="infeasible",
        )  # fmt: skip
    axis.set_ylim(bottom=0.0)


def _power(axis: Any, episode: ClusterEpisode, cluster: Cluster, time: Any) -> None:
    axis.set_title("Power per node, W (line: drawn; dashes: left to it)")
    for node, color in _shown(cluster):
        context = node.env.context
        gpus = node_series(episode, node.name, "energy_gpu_j") / cluster.interval_s
        drawn = power_in_scope(gpus, context.power_scope, context.system_power)
        axis.plot(time, drawn, color=color, lw=1.0, label=node.name)
        left = node_series(episode, node.name, "power_budget_w")
        axis.plot(time, left, color=color, lw=1.0, ls="--")
    axis.set_ylim(bottom=0.0)


def _throughput(axis: Any, episode: ClusterEpisode, cluster: Cluster, time: Any) -> None:
    axis.set_title("Throughput over target (without one: over capacity)")
    for node, color in _shown(cluster):
        target = node_series(episode, node.name, "target_tok_s")
        goal = np.where(target > 0, target, node.env.context.capacity_tok_s)
        delivered = node_series(episode, node.name, "throughput_tok_s")
        axis.plot(time, delivered / goal, color=color, lw=1.0, label=node.name)
    axis.axhline(1.0, color=BLACK, lw=1.0, ls="--")
    axis.set_ylim(bottom=0.0)


def _queues(axis: Any, episode: ClusterEpisode, cluster: Cluster, time: Any) -> None:
    axis.set_title("Requests waiting")
    for node, color in _shown(cluster):
        waiting = node_series(episode, node.name, "waiting")
        axis.plot(time, waiting, color=color, lw=1.0, label=node.name)
    axis.set_ylim(bottom=0.0)


def _shown(cluster: Cluster) -> list[tuple[Any, str]]:
    nodes = cluster.nodes[:_MOST_SHOWN]
    return list(zip(nodes, distinct_colors(len(nodes)), strict=True))
