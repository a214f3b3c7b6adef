"""Builds clusters from descriptions: what ``gymnasium.make`` calls."""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from envs import EPISODE_STEPS, catalog
from envs.arguments import expect, unexpected
from envs.cluster.cluster import Cluster, ClusterBudget
from envs.cluster.config import ClusterNode, ServerCluster
from envs.cluster.env import ClusterEnv
from envs.cluster.node import Node
from envs.errors import ConfigurationError
from envs.factory import make_env
from envs.objectives.signals import Constant
from envs.scenario import Scenario

if TYPE_CHECKING:
    from envs.cluster.pettingzoo_env import ParallelClusterEnv

PAPER_NODES: tuple[dict[str, Any], ...] = (
    {"name": "node0", "model": "deepseek_moe_16b", "target_fraction": 0.90},
    {"name": "node1", "model": "mixtral_8x7b", "target_fraction": 0.60},
    {"name": "node2", "model": "olmoe_1b_7b", "target_fraction": 0.75},
)
"""The nodes of arXiv:2605.21427 figure 9: models, and targets as fractions of their capacity."""
PAPER_BUDGET_W = 4800.0
"""Their budget."""
_NODE_KEYS = {"name", *(field.name for field in fields(ClusterNode))}
_CLUSTER_KEYS = {field.name for field in fields(ServerCluster)}


def build_cluster(cluster: ServerCluster, scenario: Scenario) -> Cluster:
    """Builds a cluster; if a node cannot be built, those built before it are released.

    Args:
        cluster: The parts in which the nodes differ, and their common budget.
        scenario: The parts that all nodes have in common.

    Raises:
        PalsError: The description is wrong, or a live node cannot be reached.
    """
    scenarios = cluster.node_scenarios(scenario)
    chosen = "uniform" if cluster.allocator is None else cluster.allocator
    nodes: list[Node] = []
    try:
        for name, own in scenarios.items():
            nodes.append(Node(name, make_env(own), cluster.retry_s))
        return Cluster(
            nodes,
            cluster.budget,
            catalog.build("allocator", chosen),
            max(1, round(scenario.duration_s / scenario.interval_s)),
            concurrent=cluster.steps_concurrently(scenarios),
        )
    except BaseException:
        with contextlib.ExitStack() as closing:  # each node, also if another cannot be put back
            for node in nodes:
                closing.callback(node.env.close)
        raise


def described_cluster(
    nodes: Sequence[Mapping[str, Any]] = PAPER_NODES,
    budget: Any = PAPER_BUDGET_W,
    **parts: Any,
) -> tuple[ServerCluster, Scenario]:
    """Returns a cluster and the scenario that its nodes have in common, from keyword arguments.

    Args:
        nodes: One mapping per node: ``name`` and the fields of a
            :class:`~envs.cluster.config.ClusterNode`.
        budget: Power budget: watts, a signal, or a :class:`ClusterBudget` (or its
            configuration). The paper's 4,800 W never bind for its 12 GPUs alone (12 x 400 W);
            for whole nodes they leave 299 W per GPU.
        **parts: Fields of a :class:`~envs.cluster.config.ServerCluster`, such as ``allocator``
            and ``power_scope``, and parts of a :class:`~envs.scenario.Scenario`.

    Raises:
        ConfigurationError: A choice is wrong, or two nodes have the same name.
    """
    if isinstance(nodes, str | bytes | Mapping) or not isinstance(nodes, Sequence):
        raise unexpected("env.nodes", "a list of mappings, one per node", nodes)
    own = {key: parts.pop(key) for key in _CLUSTER_KEYS & parts.keys()}
    named: dict[str, ClusterNode | None] = {}
    for index, node in enumerate(nodes):
        expect(f"env.nodes[{index}]", node, Mapping)
        unknown = {str(key) for key in node} - _NODE_KEYS
        if unknown:
            raise ConfigurationError(
                f"env.nodes: unknown key {min(unknown)!r}; "
                f"a node has {', '.join(sorted(_NODE_KEYS))}"
            )
        name = str(node.get("name", f"node{index}"))
        if name in named:
            raise ConfigurationError(f"env.nodes: two nodes have the same name, {name!r}")
        named[name] = ClusterNode(**{key: node[key] for key in node if key != "name"})
    return ServerCluster(nodes=named, budget=as_budget(budget), **own), Scenario.of(**parts)


def as_budget(budget: Any) -> ClusterBudget:
    """Returns a budget from watts, a signal, a configuration or a built budget."""
    if isinstance(budget, numbers.Real) and not isinstance(budget, bool):
        return ClusterBudget(signal=Constant(value=float(budget)))
    built = catalog.build("budget", budget)
    return built if isinstance(built, ClusterBudget) else ClusterBudget(signal=built)


def make_cluster(render_mode: str | None = None, **choices: Any) -> ClusterEnv:
    """Builds the flat environment ``pals/Cluster-v0``; see :func:`described_cluster`.

    Args:
        render_mode: ``rgb_array`` or ``None``.
        **choices: As there.
    """
    cluster, scenario = described_cluster(**choices)
    return ClusterEnv(build_cluster(cluster, scenario), cluster.overshoot_weight, render_mode)


make_cluster.metadata = ClusterEnv.metadata  # type: ignore[attr-defined]  # Gymnasium looks here


def make_parallel_cluster(
    max_episode_steps: int = EPISODE_STEPS, **choices: Any
) -> ParallelClusterEnv:
    """Builds the PettingZoo environment; see :func:`described_cluster`."""
    from envs.cluster.pettingzoo_env import ParallelClusterEnv

    return ParallelClusterEnv(build_cluster(*described_cluster(**choices)), max_episode_steps)
