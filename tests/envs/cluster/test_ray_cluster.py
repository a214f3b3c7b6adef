"""Nodes in real Ray actors on this machine: the same plant, killed and hung for real."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
from support.local_ray import start_ray

from envs import factory
from envs.cluster.allocators import Uniform
from envs.cluster.cluster import Cluster, ClusterBudget
from envs.cluster.errors import NodeDiedError, NodeHangsError, NodeStartingError
from envs.cluster.node import Node
from envs.cluster.ray_config import RayServerConfig
from envs.cluster.ray_node import inner_scenario
from envs.errors import ConfigurationError
from envs.live.config import VllmServerConfig
from envs.live.devices.processes import start_ticks
from envs.objectives.signals import Constant
from envs.scenario import Scenario

pytestmark = pytest.mark.long
BUDGET_W = 3000.0
PARTS = {"model": "olmoe_1b_7b", "duration_s": 60.0, "action": "grid"}


@pytest.fixture(scope="module")
def ray():
    ray = start_ray()
    yield ray
    ray.shutdown()


def remote_env(**server):
    return factory.make_env(Scenario(**PARTS, server={"base": "ray", **server}))


@pytest.fixture
def cluster(ray):
    nodes = [Node(f"node{index}", remote_env(), retry_s=1.0) for index in range(3)]
    built = Cluster(
        nodes, ClusterBudget(signal=Constant(value=BUDGET_W)), Uniform(), 60, concurrent=True
    )
    built.reset(0)
    yield built
    built.close()


def step(cluster):
    best = cluster.nodes[0].env.action_space.nvec - 1
    return cluster.step([best] * 3)


def process_of(ray, node):
    """The actor's process id, asked of Ray's own state of the actor."""
    actor = node.env.system.actor
    return ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))


def back_again(cluster, intervals=400):
    events = []
    for _ in range(intervals):
        events += step(cluster).events
        if any("back" in event for event in events):
            return events
        time.sleep(0.1)
    pytest.fail(f"the node did not come back: {events}, {[n.error for n in cluster.nodes]}")


def test_a_remote_server_is_the_same_plant(ray):
    remote, local = remote_env(), factory.make_simulated(**PARTS)
    seen = [remote.reset(seed=3)[0], local.reset(seed=3)[0]]
    np.testing.assert_array_equal(*seen)
    for action in ([0, 3], [2, 5], [5, 1]):
        first, second = (env.step(np.array(action)) for env in (remote, local))
        np.testing.assert_array_equal(first[0], second[0])
        assert first[1] == second[1]
        assert first[4]["telemetry"] == second[4]["telemetry"]
    assert remote.system.latency().finished == local.system.latency().finished
    remote.close()
    with pytest.raises(NodeDiedError, match="no actor"):
        remote.step(np.array([0, 0]))


def test_an_actor_that_is_killed_loses_its_budget_and_comes_back(ray, cluster):
    even = step(cluster).allocation_w
    assert even == pytest.approx((1000.0,) * 3)
    ray.kill(cluster.nodes[1].env.system.actor)
    states = [step(cluster), step(cluster)]
    events = [event for state in states for event in state.events]
    assert events[0].startswith("node1 down: NodeDiedError")
    assert states[1].allocation_w == pytest.approx((1500.0, 0.0, 1500.0))  # within two intervals
    assert back_again(cluster)[-1] == "node1 back"
    assert step(cluster).allocation_w == pytest.approx((1000.0,) * 3)
    assert "telemetry" in cluster.nodes[1].info


def test_a_process_that_dies_is_noticed(ray, cluster):
    os.kill(process_of(ray, cluster.nodes[2]), signal.SIGKILL)
    states = [step(cluster), step(cluster)]
    assert states[1].allocation_w == pytest.approx((1500.0, 1500.0, 0.0))
    assert "NodeDiedError" in cluster.nodes[2].error
    assert cluster.nodes[0].alive


def test_a_process_that_hangs_is_given_up(ray):
    env = remote_env(call_timeout_s=1.0)
    env.reset(seed=0)
    stopped = process_of(ray, Node("node", env))
    os.kill(stopped, signal.SIGSTOP)
    begin = time.monotonic()
    with pytest.raises(NodeHangsError, match=r"advance: no answer from the node within 1.5 s"):
        env.step(env.action_space.nvec - 1)
    assert time.monotonic() - begin < 10.0
    with pytest.raises(NodeStartingError):
        env.reset(seed=1)
    until = time.monotonic() + 20.0  # ended on its own machine: it reads no message
    while start_ticks(stopped) is not None and time.monotonic() < until:
        time.sleep(0.05)
    assert start_ticks(stopped) is None
    env.close()


def test_a_server_that_cannot_be_built_says_why(ray):
    with pytest.raises(ConfigurationError, match="no choice named 'palm'"):
        factory.make_env(Scenario(**{**PARTS, "model": "palm"}, server="ray"))


def test_the_actor_gets_the_server_itself():
    here = inner_scenario(Scenario(model="gpt2", server="ray", reward="constrained"))
    assert here.is_simulated
    assert (here.model, here.reward) == ("gpt2", "default")
    live = inner_scenario(Scenario(server={"base": "ray", "inner": "vllm"}))
    assert isinstance(live.server_config, VllmServerConfig)
    assert not live.is_simulated


@pytest.mark.parametrize("values", [{"call_timeout_s": 0.0}, {"num_cpus": -1.0}])
def test_wrong_values_name_the_key(values):
    with pytest.raises(ConfigurationError, match=next(iter(values))):
        RayServerConfig(**values)
