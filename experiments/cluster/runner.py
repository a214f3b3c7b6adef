"""One run of a cluster from its configuration to its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from baselines.base import Controller
from envs import catalog
from envs.cache import atomic_write_text
from envs.cluster.cluster import Cluster, node_seeds
from experiments.app.environment import is_simulated
from experiments.cluster.config import ServerCluster
from experiments.cluster.metrics import evaluate, summarise_cluster
from experiments.cluster.rollout import ClusterEpisode, run_cluster_episode
from experiments.evaluation.metrics import Summary, write_json
from experiments.records.hashing import plain
from experiments.records.interval_table import IntervalTable, Row
from experiments.records.journal import JOURNAL_FILE, Journal
from experiments.records.provenance import provenance
from experiments.records.tracking import RunFacts, Tracker
from experiments.runs.baseline import reference_tokens
from experiments.runs.preparation import RunPreparation
from experiments.runs.runner import SUMMARY_FILE, OnProgress, saved_config


def execute_cluster(
    config: DictConfig, directory: Path, controller_name: str, tell: OnProgress
) -> Summary:
    """Runs one kind of controller, one instance per node, and writes the run's files.

    The files of :func:`experiments.runs.runner.execute`, where it is called; ``intervals.parquet``
    has one row per interval and node, and the summary each node's metrics under ``nodes``.

    Args:
        config: A composed configuration of a run with ``env=cluster``.
        directory: Where to write.
        controller_name: Name of the controllers' choice, for the summary.
        tell: Called with what is being done, how much is done and how much there is.

    Raises:
        PalsError: The configuration is wrong, or the world failed in a way that no node is
            to blame for.
    """
    tracker: Tracker = catalog.build("tracker", config.tracker)
    described: ServerCluster = catalog.build("env", config.env)
    configs = described.node_configs(config)
    seeds = node_seeds(config.seed, len(configs))
    configs = {
        name: simulated_twin(_with_seed(own, seed))
        for (name, own), seed in zip(configs.items(), seeds, strict=True)
    }
    facts = RunFacts(f"{controller_name}-{config.seed}", directory, plain(config))
    intervals = max(1, round(config.duration / config.interval))
    live = not all(is_simulated(own) for own in configs.values())
    journal = Journal(directory / JOURNAL_FILE) if live else None
    cluster = described.build(config)
    try:
        controllers = _controllers(config, configs, cluster, tell)
        with tracker.follow(facts) as tracked:

            def on_interval(number: int, row: Row) -> None:
                if journal is not None:
                    journal.append(row)
                tracked.interval(number, row)
                tell(controller_name, number + 1, intervals)

            episode = run_cluster_episode(
                cluster,
                controllers,
                seed=config.seed,
                duration_s=config.duration,
                on_interval=on_interval,
            )
            nodes = evaluate(
                episode,
                cluster,
                lambda name, seed: reference_tokens(_with_seed(configs[name], seed)),
            )
            summary = {
                "controller": controller_name,
                "seed": int(config.seed),
                **summarise_cluster(episode, cluster, nodes).to_dict(),
                "provenance": provenance(config),
            }
            from experiments.cluster.plot import draw_cluster

            (directory / SUMMARY_FILE).unlink(missing_ok=True)
            write_intervals(episode, config.interval, directory / "intervals.parquet")
            draw_cluster(episode, cluster, directory / "run.png", controller_name)
            atomic_write_text(directory / "config.yaml", saved_config(config))
            tracked.finished(summary, directory / "run.png")
            write_json(directory / SUMMARY_FILE, summary)
            if journal is not None:
                journal.remove()
    finally:
        cluster.close()
    return summary


def _controllers(
    config: DictConfig, configs: dict[str, DictConfig], cluster: Cluster, tell: OnProgress
) -> list[Controller]:
    """Builds one controller per node, each with a profile and reference of its own node."""
    controllers, preparations = [], []
    for node in cluster.nodes:
        own = configs[node.name]
        preparation = RunPreparation(own, reference_tokens(own), tell)
        controller: Controller = catalog.build("controller", config.controller)
        controller.bind(node.env.context)
        controller.prepare(preparation)
        controllers.append(controller)
        preparations.append(preparation)
    prepare = getattr(cluster.allocator, "prepare", None)
    if prepare is not None:
        prepare([node.env.context for node in cluster.nodes], preparations)
    return controllers


def _with_seed(config: DictConfig, seed: int) -> DictConfig:
    return DictConfig(OmegaConf.merge(config, {"seed": seed}))


def simulated_twin(config: DictConfig) -> DictConfig:
    """Returns the configuration of the server itself where it runs in another process.

    What a profile or a reference depends on is the server, not the place it runs in.
    """
    inner = config.server.get("inner")
    if inner is None:
        return config
    own = {**plain(config), "server": plain(inner)}
    return DictConfig(OmegaConf.create(own))


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
