"""A bundle as a controller: every encoding, batches, and the public protocol."""

from __future__ import annotations

import numpy as np
import pytest

from agents.controller import Agent
from baselines.base import Controller
from envs import catalog
from envs.errors import ConfigurationError
from envs.factory import make_simulated
from envs.knobs import Knobs
from experiments.evaluation.rollout import run_episode


@pytest.fixture
def agent(bundle):
    return Agent(bundle=str(bundle))


def test_it_is_a_controller(agent):
    assert isinstance(agent, Controller)


@pytest.mark.parametrize("action", catalog.names("action"))
def test_it_asks_for_the_same_knobs_under_every_encoding(agent, server, action):
    """Delta moves one level at a time; all others reach the agent's setting at once."""
    env = make_simulated(action=action, duration_s=30.0)
    agent.bind(server.context)
    plain = run_episode(server, agent, seed=3, duration_s=20.0).table
    agent.bind(env.context)
    table = run_episode(env, agent, seed=3, duration_s=20.0).table
    if action == "delta":
        caps = np.array(env.context.grid.power_caps_w)
        level = np.searchsorted(caps, table["requested_power_cap_w"])
        assert np.abs(np.diff(level)).max() <= 1
    else:
        np.testing.assert_array_equal(
            table["requested_power_cap_w"], plain["requested_power_cap_w"]
        )
        np.testing.assert_array_equal(
            table["requested_max_num_seqs"], plain["requested_max_num_seqs"]
        )


def test_a_batch_is_decided_like_its_rows(agent, server):
    agent.bind(server.context)
    rng = np.random.default_rng(1)
    batch = rng.uniform(0, 1, (6, 28)).astype(np.float32)
    together, _ = agent.predict(batch)
    alone = [agent.predict(row)[0] for row in batch]
    np.testing.assert_array_equal(together, np.stack(alone))


def test_a_fixed_batch_limit_is_kept(bundle, server):
    agent = Agent(bundle=str(bundle), fixed_max_num_seqs=64)
    agent.bind(server.context)
    rng = np.random.default_rng(1)
    action, _ = agent.predict(rng.uniform(0, 1, (50, 28)).astype(np.float32))
    knobs = server.encoding.decode(action, Knobs(400.0, 64))
    assert set(knobs.max_num_seqs.tolist()) == {64}
    assert len(set(knobs.power_cap_w.tolist())) > 1 or knobs.power_cap_w.size == 50


def test_a_policy_that_is_not_shown_slos_acts_as_where_none_is_demanded(bundle, server):
    layout = server.context.layout
    rows = np.random.default_rng(1).uniform(0, 1, (50, 28)).astype(np.float32)
    slos = [layout.index("ttft_slo_s"), layout.index("tpot_slo_s")]
    without = rows.copy()
    without[:, slos] = layout.high[slos]
    assert np.isinf(layout.decode(without).ttft_slo_s).all()
    acted = {}
    for shown in (True, False):
        agent = Agent(bundle=str(bundle), latency_slos=shown)
        agent.bind(server.context)
        acted[shown] = agent.predict(rows)[0], agent.predict(without)[0]
    np.testing.assert_array_equal(acted[False][0], acted[True][1])
    np.testing.assert_array_equal(acted[False][1], acted[True][1])
    assert (acted[True][0] != acted[True][1]).any()


def test_an_agent_that_sets_the_clock_needs_it_as_a_knob(server):
    with pytest.raises(ConfigurationError, match=r"needs action\.sm_clock=true"):
        catalog.build("controller", "ppo_clock").bind(server.context)


def test_sampled_actions_differ_from_the_best_ones(agent, server):
    agent.bind(server.context)
    batch = np.zeros((400, 28), dtype=np.float32)
    best, _ = agent.predict(batch)
    sampled, _ = agent.predict(batch, deterministic=False)
    assert len(np.unique(best, axis=0)) == 1
    assert len(np.unique(sampled, axis=0)) > 1


@pytest.mark.parametrize("shape", [(27,), (29,), (3, 27), (2, 3, 28), (), (0,)])
def test_what_is_no_observation_of_the_server_is_refused(agent, server, shape):
    agent.bind(server.context)
    with pytest.raises(ValueError, match="observation: must have 28 entries") as refused:
        agent.predict(np.zeros(shape, dtype=np.float32))
    assert str(shape) in str(refused.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_entry_that_is_not_finite_is_named(agent, server, value):
    agent.bind(server.context)
    layout = server.context.layout
    seen = np.zeros((3, 28), dtype=np.float32)
    seen[1, layout.index("waiting")] = value
    for observation in (seen, seen[1]):
        with pytest.raises(ValueError, match=r"observation: waiting \(entry \d+\) is not finite"):
            agent.predict(observation)


def test_the_state_of_other_servers_is_refused(agent, server):
    """Every layer keeps something of each server: a budget of changes, what it remembers."""
    agent.bind(server.context)
    rows = np.zeros((3, 28), dtype=np.float32)
    _, state = agent.predict(rows)
    for other in (rows[:2], rows[0]):
        with pytest.raises(ValueError, match=r"state: it is that of 3 servers, .* state=None"):
            agent.predict(other, state)
    _, alone = agent.predict(rows[0])
    with pytest.raises(ValueError, match="that of 1 servers, and 3"):
        agent.predict(rows, alone)
    assert len(agent.predict(rows, state)[0]) == 3
