"""Several servers under one power budget, as a configuration describes them (``env=cluster``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from omegaconf import DictConfig, OmegaConf

from envs import catalog
from envs.cluster.cluster import Cluster, ClusterBudget
from envs.cluster.env import ClusterEnv
from envs.cluster.node import Node
from envs.errors import ConfigurationError
from envs.fields import Part
from experiments.app.environment import is_simulated, make_env
from experiments.records.hashing import plain

_SINGLE = {"_target_": "experiments.app.environment.SingleServer", "domain_randomization": False}


@dataclass(kw_only=True)
class ClusterNode:
    """What is special about a node; all else is as the run's configuration says.

    Attributes:
        model: Name of its model; ``None`` takes the run's.
        gpu: Name of its GPU type; ``None`` takes the run's.
        workload: Name of its workload; ``None`` takes the run's.
        server: Keys of ``server`` that differ from the run's; with the key ``base`` another
            choice of that group.
        target_fraction: Throughput target as a fraction of the node's capacity, and its load unless
            the workload has a rate or is a closed loop; ``None`` takes the run's objective
            and workload as they are.
    """

    model: str | None = None
    gpu: str | None = None
    workload: str | None = None
    server: dict[str, Any] = field(default_factory=dict)
    target_fraction: float | None = None

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: The fraction is not positive.
        """
        if self.target_fraction is not None and not self.target_fraction > 0:
            raise ConfigurationError(
                f"env.nodes.*.target_fraction: must be > 0, got {self.target_fraction}"
            )


@dataclass(kw_only=True)
class ServerCluster:
    """Several servers under one power budget.

    Attributes:
        nodes: The nodes by name; ``null`` leaves a node of the file out.
        budget: The power they may draw.
        allocator: Splits it over the nodes.
        power_scope: What the budget covers: ``gpu`` or ``system`` (GPUs and nodes).
        retry_s: Time between two attempts to bring a failed node back, in seconds.
        concurrent: Whether nodes take their steps at the same time; ``None``: exactly when
            they are live or remote.
        overshoot_weight: Weight of the budget's overshoot in a central agent's reward.
    """

    runner: ClassVar[str] = "experiments.cluster.runner.execute_cluster"

    nodes: dict[str, ClusterNode | None] = field(default_factory=dict)
    budget: Annotated[Any, Part("budget")] = None
    allocator: Annotated[Any, Part("allocator")] = None
    power_scope: str = "system"
    retry_s: float = 5.0
    concurrent: bool | None = None
    overshoot_weight: float = 5.0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: No node is left, or there is no budget.
        """
        if not self._chosen():
            raise ConfigurationError("env.nodes: a cluster needs at least one node")
        if not isinstance(self.budget, ClusterBudget):
            raise ConfigurationError("env.budget: choose one, budget@env.budget=constant")

    def _chosen(self) -> dict[str, ClusterNode]:
        return {name: node for name, node in self.nodes.items() if node is not None}

    def node_configs(self, config: DictConfig) -> dict[str, DictConfig]:
        """Returns each node's configuration, as if it were a run of its own.

        Raises:
            ConfigurationError: A name or key is wrong.
        """
        return {name: self._node_config(config, node) for name, node in self._chosen().items()}

    def _node_config(self, config: DictConfig, node: ClusterNode) -> DictConfig:
        parts: dict[str, Any] = {**plain(config), "env": _SINGLE}
        for group in ("model", "gpu", "workload"):
            choice = getattr(node, group)
            if choice is not None:
                parts[group] = plain(catalog.load(group, choice))
        parts["server"] = _server(parts["server"], node.server)
        objective = {**parts["objective"], "power_scope": self.power_scope, "power_budget": None}
        if node.target_fraction is not None:
            objective["target"] = {
                "_target_": "envs.objectives.signals.Constant",
                "value": node.target_fraction,
            }
            objective["target_unit"] = "capacity"
            workload = parts["workload"]
            if workload.get("rate") is None and "concurrency" not in workload:
                parts["workload"] = {**parts["workload"], "load": node.target_fraction}
        parts["objective"] = objective
        return DictConfig(OmegaConf.create(parts))

    def build(self, config: DictConfig) -> Cluster:
        """Builds the cluster; nodes built before one that cannot be are released.

        Args:
            config: A composed configuration of a run.

        Raises:
            PalsError: The configuration is wrong, or a live node is not to be had.
        """
        configs = self.node_configs(config)
        nodes: list[Node] = []
        try:
            for name, own in configs.items():
                nodes.append(Node(name, make_env(own), self.retry_s))
            return Cluster(
                nodes,
                self.budget,
                catalog.build("allocator", self.allocator or "uniform"),
                max(1, round(config.duration / config.interval)),
                concurrent=self._concurrent(configs.values()),
            )
        except BaseException:
            for node in nodes:
                node.env.close()
            raise

    def _concurrent(self, configs: Iterable[DictConfig]) -> bool:
        if self.concurrent is None:
            return not all(is_simulated(config) for config in configs)
        return self.concurrent

    def make(self, config: DictConfig, **replaced: Any) -> ClusterEnv:
        """Builds the flat environment of all nodes, for a central agent.

        Args:
            config: A composed configuration of a run.
            **replaced: Top-level parts that take the place of the configuration's.
        """
        parts = {key: plain(value) for key, value in replaced.items()}
        own = DictConfig(OmegaConf.create({**plain(config), **parts}))
        return ClusterEnv(self.build(own), self.overshoot_weight)


def _server(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
    """Returns a server's configuration with a node's changes.

    A mapping with the key ``base`` is another choice of the group instead; the number of GPUs
    follows again from sizes that change.
    """
    if "base" in changes:
        return plain(catalog.load("server", changes))
    values = {**base, **changes}
    if isinstance(changes.get("inner"), Mapping):
        values["inner"] = _server(base.get("inner") or {}, changes["inner"])
    if "num_gpus" in base and {"tensor_parallel", "data_parallel"} & set(changes):
        values["num_gpus"] = changes.get("num_gpus")
    return plain(catalog.checked("server", OmegaConf.create(values)))
