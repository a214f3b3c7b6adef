"""Several servers under one power budget, described before they are built (``conf/env``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

from envs import catalog
from envs.arguments import expect
from envs.cluster.cluster import ClusterBudget
from envs.fields import Checked, OneOf, Part, Range
from envs.quantities import SecondsOrNone, Weight
from envs.scenario import Scenario, described


@dataclass(kw_only=True)
class ClusterNode(Checked):
    """The parts in which a node differs from the scenario of the whole cluster.

    Attributes:
        model: Its model; ``None`` takes the scenario's.
        gpu: Its GPU type; ``None`` takes the scenario's.
        workload: Its workload; ``None`` takes the scenario's.
        objective: Its objective; ``None`` takes the scenario's without a power budget.
        server: Another server, or keys of the scenario's server that differ; with the key
            ``base`` another choice of that group.
        target_fraction: Throughput target as a fraction of the node's capacity, and its load
            unless the workload has a rate or is a closed loop; ``None`` leaves objective and
            workload unchanged.
    """

    config_key: ClassVar[str] = "env.nodes.*"
    differs_in: ClassVar[tuple[str, ...]] = ("model", "gpu", "workload", "objective", "server")

    model: Any = None
    gpu: Any = None
    workload: Any = None
    objective: Any = None
    server: Any = field(default_factory=dict)
    target_fraction: Annotated[float, Range(above=0.0, most=100.0)] | None = None

    def __post_init__(self) -> None:
        """Checks that what is chosen is a choice of its group."""
        super().__post_init__()
        for group in self.differs_in:
            choice = getattr(self, group)
            if choice is not None:
                catalog.refuse_other(f"{self.config_key}.{group}", choice, group)

    def scenario(self, shared: Scenario, power_scope: str) -> Scenario:
        """Returns the node's scenario, as if the node ran alone.

        Args:
            shared: The scenario of the whole cluster.
            power_scope: What the cluster's budget covers.

        Raises:
            ConfigurationError: A name or key is wrong.
        """
        own = {key: getattr(self, key) for key in ("model", "gpu")}
        own = {key: value for key, value in own.items() if value is not None}
        return replace(
            shared,
            **own,
            server=_server(shared.server, self.server),
            workload=self._workload(shared),
            objective=self._objective(shared, power_scope),
        )

    def _workload(self, shared: Scenario) -> dict[str, Any]:
        given = shared.workload if self.workload is None else self.workload
        workload: dict[str, Any] = described("workload", given)
        closed = "concurrency" in workload
        load_is_open = workload.get("rate") is None and "load" not in _keys(self.workload)
        if self.target_fraction is not None and load_is_open and not closed:
            workload["load"] = float(self.target_fraction)
        return workload

    def _objective(self, shared: Scenario, power_scope: str) -> dict[str, Any]:
        given = shared.objective if self.objective is None else self.objective
        objective: dict[str, Any] = described("objective", given)
        changes: dict[str, Any] = {"power_scope": power_scope}
        if self.objective is None:
            changes["power_budget"] = None
        if self.target_fraction is not None:
            changes["target"] = {
                "_target_": "envs.objectives.signals.Constant",
                "value": float(self.target_fraction),
            }
            changes["target_unit"] = "capacity"
        kept = _keys(self.objective)
        return {**objective, **{k: v for k, v in changes.items() if k not in kept}}


@dataclass(kw_only=True)
class ServerCluster(Checked):
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

    config_key: ClassVar[str] = "env"

    nodes: dict[str, ClusterNode | None] = field(default_factory=dict)
    budget: Annotated[Any, Part("budget")] = None
    allocator: Annotated[Any, Part("allocator")] = None
    power_scope: Annotated[str, OneOf("gpu", "system")] = "system"
    retry_s: SecondsOrNone = 5.0
    concurrent: bool | None = None
    overshoot_weight: Weight = 5.0

    def __post_init__(self) -> None:
        """Checks that there are nodes and a budget."""
        super().__post_init__()
        expect("env.nodes", self.nodes, Mapping)
        for name, node in self.nodes.items():
            expect(f"env.nodes.{name}", node, ClusterNode, optional=True)
        self.require(any(self.nodes.values()), "nodes", "hold at least one node")
        rule = "be a budget; choose one, budget@env.budget=constant"
        self.require(isinstance(self.budget, ClusterBudget), "budget", rule)

    def node_scenarios(self, shared: Scenario) -> dict[str, Scenario]:
        """Returns each node's scenario, as if the node ran alone.

        Args:
            shared: The scenario of the whole cluster.

        Raises:
            ConfigurationError: A name or key is wrong.
        """
        for group in ClusterNode.differs_in:  # those that every node replaces are used by none
            choice = getattr(shared, group)
            if isinstance(choice, str) or "base" in _keys(choice):
                catalog.load(group, choice)
        return {
            name: node.scenario(shared, self.power_scope)
            for name, node in self.nodes.items()
            if node is not None
        }

    def steps_concurrently(self, scenarios: Mapping[str, Scenario]) -> bool:
        """Returns whether nodes take their steps at the same time."""
        if self.concurrent is None:
            return not all(scenario.is_simulated for scenario in scenarios.values())
        return self.concurrent


def _keys(choice: Any) -> set[str]:
    """Returns the keys that a choice sets itself."""
    return set(choice) if isinstance(choice, Mapping) else set()


def _server(shared: Any, changes: Any) -> Any:
    """Returns a server's configuration with a node's changes.

    The number of GPUs follows again from sizes that change.
    """
    if changes is None or changes == {}:
        return shared
    if not isinstance(changes, Mapping) or {"base", "_target_"} & set(changes):
        return changes
    base: dict[str, Any] = described("server", shared)
    values = {**base, **changes}
    if isinstance(changes.get("inner"), Mapping):
        values["inner"] = _server(base.get("inner") or {}, changes["inner"])
    if "num_gpus" in base and {"tensor_parallel", "data_parallel"} & set(changes):
        values["num_gpus"] = changes.get("num_gpus")
    return described("server", values)
