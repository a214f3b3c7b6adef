"""A live vLLM server in a Ray actor beside two simulated ones, under one budget."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from live_help import MAX_NUM_SEQS
from support.local_ray import start_ray

from envs import catalog
from envs.cluster.allocators import Uniform
from envs.cluster.cluster import Cluster, ClusterBudget
from envs.cluster.node import Node
from envs.cluster.ray_node import make_ray
from envs.live.process import VllmProcess
from envs.signals import Constant
from experiments.fingerprint import plain

pytestmark = pytest.mark.live
BUDGET_W = 3600.0


@pytest.fixture
def cluster(vllm: VllmProcess) -> Iterator[Cluster]:
    """One live node and two simulated ones, each in an actor of its own."""
    ray = start_ray()
    inner: dict[str, Any] = {
        "base": "vllm_cpu",
        "url": vllm.url,
        "server_pid": vllm.pid,
        "launch": {"model": None},
        "max_num_seqs": MAX_NUM_SEQS,
        "capacity_tok_s": 400.0,
        "rated_power_w": 400.0,
        "call_timeout_s": 5.0,
    }
    load = {"base": "poisson_gsm8k", "rate": 3.0, "prompt_scale": 0.2, "output_scale": 0.3}
    with contextlib.ExitStack() as stack:
        stack.callback(ray.shutdown)
        live = make_ray(
            workload=load,
            server={
                **plain(catalog.load("server", "ray")),
                "inner": plain(catalog.load("server", inner)),
                "call_timeout_s": 10.0,
            },
            duration=60.0,
        )
        stack.callback(live.close)
        simulated = []
        for _ in range(2):
            simulated.append(make_ray(model="olmoe_1b_7b", server="ray", duration=60.0))
            stack.callback(simulated[-1].close)
        nodes = [Node(f"node{index}", env) for index, env in enumerate([live, *simulated])]
        budget = ClusterBudget(signal=Constant(value=BUDGET_W))
        built = Cluster(nodes, budget, Uniform(), 120, concurrent=True)
        stack.callback(built.close)
        yield built


def test_a_live_node_serves_beside_simulated_ones(cluster: Cluster) -> None:
    cluster.reset(0)
    tokens = dict.fromkeys((node.name for node in cluster.nodes), 0.0)
    finished = 0.0
    for _ in range(30):
        actions = [node.env.action_space.nvec - 1 for node in cluster.nodes]  # type: ignore[attr-defined]
        state = cluster.step(actions)
        assert state.feasible
        assert sum(state.allocation_w) <= BUDGET_W * (1 + 1e-9)
        assert state.events == ()
        for node in cluster.nodes:
            tokens[node.name] += node.info["telemetry"].output_tokens
        finished += cluster.nodes[0].info["telemetry"].finished
    assert all(count > 0 for count in tokens.values()), tokens
    live = cluster.nodes[0]
    assert live.info["knobs"].power_cap_w <= live.env.cap_ceiling_w
    assert finished > 5


def test_a_live_nodes_actor_that_dies_leaves_the_others_running(cluster: Cluster) -> None:
    import ray

    cluster.reset(0)
    for _ in range(4):
        cluster.step([node.env.action_space.nvec - 1 for node in cluster.nodes])  # type: ignore[attr-defined]
    system: Any = cluster.nodes[0].env.system
    ray.kill(system.actor)
    states = [
        cluster.step([node.env.action_space.nvec - 1 for node in cluster.nodes])  # type: ignore[attr-defined]
        for _ in range(2)
    ]
    assert not cluster.nodes[0].alive
    assert states[1].allocation_w[0] == 0.0
    assert sum(states[1].allocation_w[1:]) > 0.99 * min(BUDGET_W, 2 * cluster.nodes[1].ceiling_w)
