"""Builds clusters from names or configurations: what ``gymnasium.make`` calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from envs import EPISODE_STEPS, catalog, factory
from envs.cluster.cluster import Cluster, ClusterBudget
from envs.cluster.env import ClusterEnv
from envs.cluster.node import Node
from envs.errors import ConfigurationError
from envs.objectives.signals import Constant

if TYPE_CHECKING:
    from envs.cluster.pettingzoo_env import ParallelClusterEnv

PAPER_NODES: tuple[dict[str, Any], ...] = (
    {"name": "node0", "model": "deepseek_moe_16b", "target_fraction": 0.90},
    {"name": "node1", "model": "mixtral_8x7b", "target_fraction": 0.60},
    {"name": "node2", "model": "olmoe_1b_7b", "target_fraction": 0.75},
)
"""The nodes of arXiv:2605.21427 figure 9: models and targets as fraction of their capacity."""
PAPER_BUDGET_W = 4800.0
"""Their budget."""
_NODE_KEYS = {"name", "model", "gpu", "workload", "objective", "server", "target_fraction"}


def node_choices(node: Mapping[str, Any], power_scope: str) -> dict[str, Any]:
    """Returns a node's choices for :func:`envs.factory.make_simulated`.

    ``target_fraction`` sets target and load: the node is asked for this fraction of its capacity
    and gets as many requests. A ``workload`` or ``objective`` of its own goes before.

    Raises:
        ConfigurationError: A key is unknown.
    """
    unknown = set(node) - _NODE_KEYS
    if unknown:
        raise ConfigurationError(
            f"env.nodes: unknown key {min(unknown)!r}; a node has {', '.join(sorted(_NODE_KEYS))}"
        )
    choices = {key: node[key] for key in ("model", "gpu", "server") if node.get(key) is not None}
    workload: dict[str, Any] = {"base": factory.WORKLOAD}
    objective: dict[str, Any] = {"base": factory.OBJECTIVE}
    for target, key in ((workload, "workload"), (objective, "objective")):
        given = node.get(key)
        if isinstance(given, Mapping):
            target.update(given)
        elif given is not None:
            target["base"] = given
    fraction = node.get("target_fraction")
    if fraction is not None:
        if "concurrency" not in catalog.load("workload", workload):  # a closed loop has no load
            workload.setdefault("load", float(fraction))
        objective.setdefault(
            "target", {"_target_": "envs.objectives.signals.Constant", "value": float(fraction)}
        )
        objective.setdefault("target_unit", "capacity")
    objective.setdefault("power_scope", power_scope)
    return {**choices, "workload": workload, "objective": objective}


def build_cluster(
    nodes: Sequence[Mapping[str, Any]] = PAPER_NODES,
    budget: Any = PAPER_BUDGET_W,
    allocator: Any = "uniform",
    power_scope: str = "system",
    interval: float = 0.5,
    duration: float = 600.0,
    action: Any = factory.ACTION,
    reward: Any = factory.REWARD,
    retry_s: float = 5.0,
) -> Cluster:
    """Builds a cluster of simulated servers.

    Args:
        nodes: One mapping a node: ``name`` and any of ``model, gpu, server, workload,
            objective, target_fraction``.
        budget: Power budget: watts, a signal, or a :class:`ClusterBudget` (or its
            configuration).
        allocator: How the budget is split: a name in ``conf/allocator`` or an allocator.
        power_scope: What the budget covers: ``gpu`` or ``system``. The paper's 4,800 W never
            bind the 12 GPUs alone (12 x 400 W); over systems they leave 299 W a GPU.
        interval: Control interval in seconds.
        duration: Time in seconds over which signals are laid out.
        action: Action encoding of every node.
        reward: Reward terms of every node.
        retry_s: Time between two attempts to bring a failed node back.

    Raises:
        ConfigurationError: A choice is wrong.
    """
    built = [
        Node(
            str(node.get("name", f"node{index}")),
            factory.make_simulated(
                **node_choices(node, power_scope),
                action=action,
                reward=reward,
                interval=interval,
                duration=duration,
            ),
            retry_s,
        )
        for index, node in enumerate(nodes)
    ]
    return Cluster(
        built,
        as_budget(budget),
        catalog.build("allocator", allocator),
        max(1, round(duration / interval)),
    )


def as_budget(budget: Any) -> ClusterBudget:
    """Returns a budget from watts, a signal, a configuration or a built budget."""
    if isinstance(budget, int | float):
        return ClusterBudget(signal=Constant(value=float(budget)))
    built = catalog.build("budget", budget)
    return built if isinstance(built, ClusterBudget) else ClusterBudget(signal=built)


def make_cluster(overshoot_weight: float = 5.0, **choices: Any) -> ClusterEnv:
    """Builds the flat environment ``pals/Cluster-v0``; choices as in :func:`build_cluster`."""
    return ClusterEnv(build_cluster(**choices), overshoot_weight)


def make_parallel_cluster(
    max_episode_steps: int = EPISODE_STEPS, **choices: Any
) -> ParallelClusterEnv:
    """Builds the PettingZoo environment; choices as in :func:`build_cluster`."""
    from envs.cluster.pettingzoo_env import ParallelClusterEnv

    return ParallelClusterEnv(build_cluster(**choices), max_episode_steps)
