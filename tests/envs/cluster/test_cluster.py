"""Nodes in lockstep: budgets that hold, failures that do not stop the run, determinism."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted_server import GPUS, GoneError, ScriptedServer, SilentError, scripted_node

from envs.cluster.allocators import Uniform
from envs.cluster.cluster import Cluster, ClusterBudget, node_seeds
from envs.errors import ConfigurationError, PalsError
from envs.objectives.signals import Constant, Regulation, Steps


def highest_action(node):
    return np.array(node.env.action_space.nvec) - 1


def cluster_of(*servers, budget=3000.0, intervals=40, concurrent=False, **options):
    nodes = [
        scripted_node(f"node{index}", server, **options) for index, server in enumerate(servers)
    ]
    if not isinstance(budget, ClusterBudget):
        budget = ClusterBudget(signal=Constant(value=budget))
    return Cluster(nodes, budget, Uniform(), intervals, concurrent=concurrent)


def run(cluster, intervals, seed=0):
    states = [cluster.reset(seed)]
    for _ in range(intervals):
        states.append(cluster.step([highest_action(node) for node in cluster.nodes]))
    return states


def caps_in_scope(cluster, alpha=1.0, beta_w=0.0):
    return sum(
        alpha * GPUS * node.info["telemetry"].power_cap_w + beta_w
        for node in cluster.nodes
        if node.alive and "knobs" in node.info
    )


@pytest.mark.parametrize(("scope", "alpha", "beta_w"), [("gpu", 1.0, 0.0), ("system", 1.05, 345.0)])
def test_caps_and_overhead_keep_within_the_budget(scope, alpha, beta_w):
    signal = Steps(every_s=1.0)
    servers = [ScriptedServer() for _ in range(3)]
    cluster = cluster_of(*servers, budget=ClusterBudget(signal=signal), power_scope=scope)

    @given(budgets=st.lists(st.floats(2400.0, 9000.0), min_size=2, max_size=6))
    @settings(max_examples=25)
    def holds(budgets):
        signal.levels = budgets
        cluster.reset(0)
        for _ in range(2 * len(budgets)):
            state = cluster.step([highest_action(node) for node in cluster.nodes])
            assert state.feasible
            assert caps_in_scope(cluster, alpha, beta_w) <= state.budget_w * (1 + 1e-9)
            assert state.power_w <= state.budget_w * (1 + 1e-9)

    holds()


def test_an_impossible_budget_is_said_and_violated_by_the_least():
    cluster = cluster_of(ScriptedServer(), ScriptedServer(), budget=500.0)
    states = run(cluster, 2)
    assert not any(state.feasible for state in states)
    assert caps_in_scope(cluster) == 2 * GPUS * 100.0
    assert states[0].allocation_w == (400.0, 400.0)


@pytest.mark.parametrize("error", [GoneError("ended"), SilentError("no answer within 1 s")])
@pytest.mark.parametrize("concurrent", [False, True])
def test_a_failed_nodes_budget_goes_to_the_others_within_two_intervals(error, concurrent):
    failing = ScriptedServer({5: error}, refuses=1)
    cluster = cluster_of(
        ScriptedServer(), failing, ScriptedServer(), concurrent=concurrent, retry_s=1.0
    )
    states = run(cluster, 12)
    cluster.close()
    events = {number: state.events for number, state in enumerate(states) if state.events}
    assert events == {
        5: (f"node1 down: {type(error).__name__}: {error}",),
        9: ("node1 back",),  # one attempt a second; the first one fails
    }
    assert states[4].allocation_w == (1000.0, 1000.0, 1000.0)
    for number in range(5, 9):
        assert states[number].allocation_w == (1500.0, 0.0, 1500.0)
    assert states[9].allocation_w == (1000.0, 1000.0, 1000.0)
    survivor = cluster.nodes[0].env.system
    assert survivor.caps[4:6] == [250.0, 375.0]  # the very next interval
    assert survivor.caps[9] == 250.0
    assert failing.seeds[0] != failing.seeds[1]


def test_a_node_that_is_down_observes_nothing_and_draws_nothing():
    cluster = cluster_of(ScriptedServer({2: GoneError("ended")}), ScriptedServer(), retry_s=99.0)
    run(cluster, 3)
    down = cluster.nodes[0]
    assert not down.alive
    assert down.observation.any() == np.False_
    assert (down.power_w, down.reward, down.info) == (0.0, 0.0, {})
    assert down.error == "GoneError: ended"


def test_all_nodes_may_fail_and_the_run_goes_on():
    servers = [ScriptedServer({2: GoneError("ended")}) for _ in range(2)]
    states = run(cluster_of(*servers, retry_s=2.0), 8)
    assert states[2].allocation_w == (0.0, 0.0)
    assert states[2].feasible
    assert states[6].events == ("node0 back", "node1 back")


def test_notice_lets_the_allocation_fall_before_the_budget_does():
    budget = ClusterBudget(signal=Steps(levels=[3000.0, 1500.0], every_s=5.0), notice_s=2.0)
    states = run(cluster_of(ScriptedServer(), ScriptedServer(), budget=budget), 12)
    budgets = [state.next_budget_w for state in states]
    assert budgets[9] == 3000.0
    assert budgets[10] == 1500.0
    assert states[5].announced_budget_w == 3000.0
    assert states[6].announced_budget_w == 1500.0  # four intervals ahead
    assert sum(states[8].allocation_w) == pytest.approx(3000.0)
    assert sum(states[9].allocation_w) == pytest.approx(1500.0)  # in force before the drop
    assert all(state.power_w <= state.budget_w for state in states)


def test_without_notice_nobody_knows():
    budget = ClusterBudget(signal=Steps(levels=[3000.0, 1500.0], every_s=5.0))
    states = run(cluster_of(ScriptedServer(), ScriptedServer(), budget=budget), 10)
    assert states[9].announced_budget_w == 3000.0
    assert sum(states[9].allocation_w) == pytest.approx(3000.0)


def test_ramps_slow_rises_and_never_delay_drops():
    budget = ClusterBudget(
        signal=Steps(levels=[1000.0, 3000.0, 1000.0], every_s=5.0), ramp_w_per_s=200.0
    )
    watts = budget.schedule(0.0, np.random.default_rng(0), 30, 0.5)
    assert watts[9:14].tolist() == [1000.0, 1100.0, 1200.0, 1300.0, 1400.0]
    assert watts[20] == 1000.0
    assert np.diff(watts).max() <= 100.0 + 1e-9


def test_a_fraction_is_one_of_the_highest_power():
    budget = ClusterBudget(signal=Constant(value=0.5), unit="fraction")
    state = run(cluster_of(ScriptedServer(), ScriptedServer(), budget=budget), 0)[0]
    assert state.next_budget_w == pytest.approx(0.5 * 2 * GPUS * 400.0)


def test_the_same_seed_gives_the_same_run():
    def powers(seed):
        budget = ClusterBudget(signal=Regulation(low=1000.0, high=3000.0))
        servers = [ScriptedServer(), ScriptedServer()]
        states = run(cluster_of(*servers, budget=budget), 20, seed)
        return [state.budget_w for state in states], [server.seeds for server in servers]

    assert powers(3) == powers(3)
    assert powers(3) != powers(4)


def test_node_seeds_differ():
    seeds = node_seeds(0, 50) + node_seeds(1, 50)
    assert len(set(seeds)) == 100


def test_close_releases_every_node():
    class Stuck(ScriptedServer):
        def close(self):
            raise GoneError("cannot close")

    after = ScriptedServer()
    cluster = cluster_of(Stuck(), after)
    with pytest.raises(PalsError, match="cannot close"):
        cluster.close()
    assert after.closed


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([], "at least one node"),
        ([scripted_node("a"), scripted_node("a")], "same name"),
        ([scripted_node("a"), scripted_node("b", interval=1.0)], "same interval"),
        ([scripted_node("a"), scripted_node("b", power_scope="system")], "power_scope"),
    ],
)
def test_nodes_must_go_together(nodes, message):
    with pytest.raises(ConfigurationError, match=message):
        Cluster(nodes, ClusterBudget(signal=Constant(value=1.0)), Uniform(), 10)


@pytest.mark.parametrize(
    ("values", "key"),
    [({"unit": "kw"}, "unit"), ({"notice_s": -1.0}, "notice_s"), ({"ramp_w_per_s": 0.0}, "ramp")],
)
def test_wrong_budgets_name_the_key(values, key):
    with pytest.raises(ConfigurationError, match=key):
        ClusterBudget(signal=Constant(value=1.0), **values)
