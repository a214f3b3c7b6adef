"""One run of a cluster from its configuration to its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from baselines.base import Controller
from envs.cluster.cluster import Cluster, node_seeds
from envs.cluster.factory import build_cluster
from envs.cluster.ray_config import server_itself
from envs.scenario import Scenario
from experiments.cluster.metrics import NodeMetrics, evaluate, summarise_cluster
from experiments.cluster.rollout import ClusterEpisode, run_cluster_episode
from experiments.evaluation.baseline import reference_tokens
from experiments.evaluation.metrics import Summary
from experiments.records.description import describe_scenario
from experiments.records.interval_table import IntervalTable
from experiments.runs.options import RunOptions
from experiments.runs.preparation import RunPreparation
from experiments.runs.recorder import OnProgress, RunRecorder


def execute_cluster(
    scenario: Scenario, options: RunOptions, directory: Path, on_progress: OnProgress
) -> Summary:
    """Runs one kind of controller, one instance per node, and writes the run's files.

    The files of :func:`experiments.runs.runner.execute`, where it is called; ``intervals.parquet``
    has one row per interval and node, and the summary each node's metrics under ``nodes``.

    Args:
        scenario: What the nodes share.
        options: Who controls them, and how the cluster is run.
        directory: Where to write.
        on_progress: Called with what is being done, how much is done and how much there is.

    Raises:
        PalsError: The configuration is wrong, or the world failed in a way that no node is
            to blame for.
    """
    described = options.new_cluster()
    own = {name: server_itself(node) for name, node in described.node_scenarios(scenario).items()}
    live = not all(node.is_simulated for node in own.values())
    nodes = {name: describe_scenario(node) for name, node in own.items() if node.is_simulated}
    recorder = RunRecorder(
        scenario, options, directory, on_progress, live=live, description={"nodes": nodes}
    )
    cluster = build_cluster(described, scenario)
    try:
        seeds = dict(zip(own, node_seeds(options.seed, len(own)), strict=True))
        controllers = _controllers(own, seeds, options, cluster, on_progress)
        with recorder.following():
            episode = run_cluster_episode(
                cluster,
                controllers,
                seed=options.seed,
                duration_s=scenario.duration_s,
                on_interval=recorder.on_interval,
            )
            values = evaluate(
                episode, cluster, lambda name, seed: reference_tokens(own[name], seed)
            )
            from experiments.cluster.plot import draw_cluster

            return recorder.finish(
                _summary(episode, cluster, values),
                lambda file: write_intervals(episode, scenario.interval_s, file),
                lambda file: draw_cluster(episode, cluster, file, options.controller_name),
            )
    finally:
        cluster.close()


def _controllers(
    scenarios: Mapping[str, Scenario],
    seeds: Mapping[str, int],
    options: RunOptions,
    cluster: Cluster,
    on_progress: OnProgress,
) -> list[Controller]:
    """Builds one controller per node, each with a profile and reference of its own node."""
    controllers, preparations = [], []
    for node in cluster.nodes:
        own, seed = scenarios[node.name], seeds[node.name]
        preparation = RunPreparation(
            own, replace(options, seed=seed), reference_tokens(own, seed), on_progress
        )
        controller = options.new_controller()
        controller.bind(node.env.context)
        controller.prepare(preparation)
        controllers.append(controller)
        preparations.append(preparation)
    cluster.allocator.prepare([node.env.context for node in cluster.nodes], preparations)
    return controllers


def _summary(
    episode: ClusterEpisode, cluster: Cluster, nodes: Mapping[str, NodeMetrics | None]
) -> Summary:
    """Returns the cluster's metrics, with the decisions of each node's controller."""
    summary: Summary = summarise_cluster(episode, cluster, nodes).to_dict()
    for name, own in summary["nodes"].items():
        if own is not None:
            own.update(episode.nodes[name].decisions.summary())
    return summary


def write_intervals(episode: ClusterEpisode, interval_s: float, file: Path) -> None:
    """Writes one row per interval and node, in the order of time.

    Columns are those of a single server's run, and ``node``, ``alive`` (0 or 1),
    ``segment_time_s`` (time since the node last started) and the cluster's own as ``cluster_*``.
    Only ``node``, ``alive``, ``time_s`` and the cluster's have values while a node is down.
    """
    intervals, names = len(episode.table), list(episode.nodes)
    shape = (intervals, len(names))
    columns: dict[str, NDArray[np.float64]] = {}
    alive = np.zeros(shape)
    for place, record in enumerate(episode.nodes.values()):
        table, answered = record.table, record.intervals
        alive[answered, place] = 1.0
        for name in table.names:
            columns.setdefault(name, np.full(shape, np.nan))[answered, place] = table[name]

    def of_all_nodes(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.broadcast_to(values[:, None], shape)

    columns["segment_time_s"] = columns.get("time_s", np.full(shape, np.nan))
    columns["time_s"] = of_all_nodes(interval_s * np.arange(1, intervals + 1, dtype=np.float64))
    columns["alive"] = alive
    for name in episode.table.names:
        if name != "time_s":
            columns[f"cluster_{name}"] = of_all_nodes(episode.table[name])
    flat = IntervalTable.from_columns({name: values.ravel() for name, values in columns.items()})
    flat.write_parquet(file, labels={"node": names * intervals})
