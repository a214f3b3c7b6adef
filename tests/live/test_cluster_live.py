"""A live vLLM server in a Ray actor beside two simulated ones, under one budget."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_help import MAX_NUM_SEQS, groups, wait_for
from support.local_ray import start_ray

from envs import catalog
from envs.cluster.allocators import Uniform
from envs.cluster.cluster import Cluster, ClusterBudget, ClusterState
from envs.cluster.node import Node
from envs.factory import make_env
from envs.live.batch_limit import BatchLimit
from envs.live.devices.processes import workers_of
from envs.live.devices.throttled_cpu import CGROUP_V1
from envs.live.process import VllmProcess
from envs.objectives.signals import Constant
from envs.scenario import Scenario
from experiments.records.hashing import plain

pytestmark = pytest.mark.live
BUDGET_W = 3600.0


@pytest.fixture
def cluster(vllm: VllmProcess, limit: BatchLimit) -> Iterator[Cluster]:
    """One live node and two simulated ones, each in an actor of its own.

    It takes ``limit`` so that what is left of the limit is looked at when the cluster is closed.
    """
    ray = start_ray()
    inner: dict[str, Any] = {
        "base": "vllm_cpu",
        "url": vllm.url,
        "control": True,
        "send_load": True,
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
        server = {
            **plain(catalog.load("server", "ray")),
            "inner": plain(catalog.load("server", inner)),
            "call_timeout_s": 10.0,
        }
        live = make_env(Scenario(workload=load, server=server, duration_s=60.0))
        stack.callback(live.close)
        simulated = []
        for _ in range(2):
            other = Scenario(model="olmoe_1b_7b", server="ray", duration_s=60.0)
            simulated.append(make_env(other))
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


def step(cluster: Cluster, live_at: str = "highest") -> ClusterState:
    """One interval; simulated nodes are at their highest knobs."""
    actions = [node.env.action_space.nvec - 1 for node in cluster.nodes]  # type: ignore[attr-defined]
    if live_at == "lowest":
        actions[0] = np.zeros_like(actions[0])
    return cluster.step(actions)


def _die(actor: Any) -> None:
    import ray

    ray.kill(actor)


def _hang(actor: Any) -> None:
    import ray

    os.kill(ray.get(actor.__ray_call__.remote(lambda _: os.getpid())), signal.SIGSTOP)


@pytest.mark.long
@pytest.mark.parametrize("fails", [_die, _hang])
def test_a_live_node_that_fails_is_put_back_and_rejoins(
    cluster: Cluster, vllm: VllmProcess, limit: BatchLimit, fails: Callable[[Any], None]
) -> None:
    """Its budget goes to the others, its own guard restores its knobs, and it comes back."""
    live, other = cluster.nodes[:2]
    cluster.reset(0)
    worker = workers_of(vllm.pid)[0]
    for _ in range(6):
        step(cluster, live_at="lowest")
    lowest = int(live.env.context.grid.max_num_seqs[0])
    assert limit.read()["max_num_seqs"] == lowest
    assert groups(worker) != [] or not Path(CGROUP_V1).is_dir()

    system: Any = live.env.system
    fails(system.actor)
    states = [step(cluster), step(cluster)]
    assert not live.alive
    assert states[1].allocation_w[0] == 0.0
    assert sum(states[1].allocation_w[1:]) > 0.99 * min(BUDGET_W, 2 * other.ceiling_w)
    wait_for(lambda: limit.read()["max_num_seqs"] == MAX_NUM_SEQS, 5.0)
    wait_for(lambda: groups(worker) == [], 5.0)

    events: list[str] = []
    until = time.monotonic() + 120.0
    while not live.alive and time.monotonic() < until:
        events += step(cluster).events
        time.sleep(0.1)
    assert events[-1:] == ["node0 back"], live.error
    tokens = 0.0
    for _ in range(16):
        step(cluster)
        tokens += live.info["telemetry"].output_tokens
    assert tokens > 0
