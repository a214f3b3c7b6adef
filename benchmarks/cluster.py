"""Cost of clusters: lockstep per node and interval, and the coordinator's decision.

``cpu`` is this process's own processor time, which other programs on the machine do not lengthen;
with Ray it is the coordinator's time alone.

Run by hand: ``python -m benchmarks.cluster`` (``--ray 3,16,64 --local 3,100,1000``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from envs import factory
from envs.cluster.allocators import Allocator, Proportional
from envs.cluster.cluster import Cluster, ClusterBudget
from envs.cluster.node import Node
from envs.objectives.signals import Constant
from envs.scenario import Scenario
from envs.serving import ServingEnv

MODEL = "olmoe_1b_7b"
INTERVAL_S = 0.5


def local_nodes(count: int) -> list[Node]:
    """Returns nodes in this process with the same description of a server."""
    first = factory.make_simulated(model=MODEL, objective=_OBJECTIVE)
    return [Node("node0", first)] + [
        Node(f"node{index}", _twin(first)) for index in range(1, count)
    ]


_OBJECTIVE = {"base": "throughput_target", "power_scope": "system"}


def _twin(first: ServingEnv) -> ServingEnv:
    from envs import catalog
    from envs.simulator.server import SimulatedServer

    server_spec: Any = first.system
    return ServingEnv(
        SimulatedServer(server_spec.server_spec),
        first.objective,
        catalog.build("action", "grid"),
        first.reward,
        power_caps_w=server_spec.server_spec.gpu.power_caps_w,
    )


def ray_nodes(count: int) -> list[Node]:
    """Returns nodes in Ray actors."""
    scenario = Scenario(model=MODEL, objective=_OBJECTIVE, server="ray")
    return [Node(f"node{index}", factory.make_env(scenario)) for index in range(count)]


def cluster_of(nodes: Sequence[Node], allocator: Allocator, *, concurrent: bool) -> Cluster:
    """Returns a cluster with 70 % of its highest power."""
    budget = ClusterBudget(signal=Constant(value=0.7), unit="fraction")
    return Cluster(nodes, budget, allocator, 1200, concurrent=concurrent)


def lockstep(cluster: Cluster, intervals: int) -> dict[str, float]:
    """Times intervals, and separately the servers' own work (no commands, no evaluation)."""
    actions = [node.env.action_space.sample() for node in cluster.nodes]
    cluster.reset(0)
    for _ in range(3):
        cluster.step(actions)
    begin, began = time.perf_counter(), time.process_time()
    for _ in range(intervals):
        cluster.step(actions)
    whole, cpu = time.perf_counter() - begin, time.process_time() - began
    some = cluster.nodes[:8]
    began = time.process_time()
    for _ in range(intervals):
        for node in some:
            node.env.system.advance(INTERVAL_S)
    alone = (time.process_time() - began) / len(some)
    count, per = len(cluster.nodes), 1e6 / intervals / len(cluster.nodes)
    return {
        "nodes": count,
        "interval_ms": 1e3 * whole / intervals,
        "per_node_us": per * whole,
        "per_node_cpu_us": per * cpu,
        "server_cpu_us": 1e6 * alone / intervals,
    }


def decision(cluster: Cluster, repeats: int) -> dict[str, float]:
    """Times the coordinator's work in an interval: observe, split, set budgets."""
    cluster.reset(0)
    cluster.step([node.env.action_space.sample() for node in cluster.nodes])
    waits = []
    began = time.process_time()
    for _ in range(repeats):
        begin = time.perf_counter()
        cluster.fraction()
        waits.append(1e3 * (time.perf_counter() - begin))
    return {
        "nodes": len(cluster.nodes),
        "cpu_ms": 1e3 * (time.process_time() - began) / repeats,
        "median_ms": statistics.median(waits),
        "p95_ms": float(np.percentile(waits, 95)),
    }


def predictive(nodes: Sequence[Node]) -> Allocator:
    """Returns PALS's allocator with an invented curve per node: only its time is measured."""
    from baselines.pals.allocator import PowerCurve, Predictive

    allocator = Predictive()
    caps = np.linspace(0.0, 1.0, 6)
    allocator.set_curves(
        [
            PowerCurve(
                node.floor_w + (node.ceiling_w - node.floor_w) * caps,
                node.env.context.capacity_tok_s * (0.5 + 0.5 * caps**0.5),
            )
            for node in nodes
        ]
    )
    return allocator


def main() -> None:
    """Measures and prints one JSON line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--local", default="3,100,1000", help="cluster sizes in one process")
    parser.add_argument("--ray", default="3,16,64", help="cluster sizes in Ray; empty for none")
    parser.add_argument("--intervals", type=int, default=20)
    arguments = parser.parse_args()
    for count in _sizes(arguments.local):
        nodes = local_nodes(count)
        for name, allocator in (
            ("proportional", Proportional()),
            ("predictive", predictive(nodes)),
        ):
            cluster = cluster_of(nodes, allocator, concurrent=False)
            _tell(what="decision", allocator=name, **decision(cluster, 50))
        cluster = cluster_of(nodes, Proportional(), concurrent=False)
        _tell(what="lockstep", where="process", **lockstep(cluster, arguments.intervals))
    for count in _sizes(arguments.ray):
        cluster = cluster_of(ray_nodes(count), Proportional(), concurrent=True)
        _tell(what="lockstep", where="ray", **lockstep(cluster, arguments.intervals))
        cluster.close()


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",") if size]


def _tell(**values: Any) -> None:
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()}))


if __name__ == "__main__":
    main()
