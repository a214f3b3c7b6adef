"""What an agent is asked for: dealt evenly, shown, priced, moved at run time, kept in bundles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO

from agents.asked import SCALES, Asked, AskedPolicy, AskedVecEnv, described, with_asked
from agents.bundle import load_policy, read_bundle, save_bundle
from agents.constraints import SwitchingConstraint, ThroughputConstraint
from agents.controller import Agent
from agents.lagrangian import PricedVecEnv, PriceUpdates
from agents.limit_loop import LimitLoop, LoopState
from agents.memory import Memory
from agents.start import start_from, tilt
from agents.vec_env import make_vec_env
from baselines.base import Controller
from envs.errors import ConfigurationError
from envs.objectives.qos import QoSConfig
from experiments.evaluation.rollout import run_episode

RECIPE_POLICY = {"net_arch": [8]}
ASKED = Asked(limits=[0.01, 0.1], prices=[2.0, 0.2], switch_prices=[0.0, 0.5])


def make(count: int = 8, **asked: Any) -> tuple[AskedVecEnv, PricedVecEnv]:
    servers = make_vec_env(count, seed=0, max_episode_steps=20, duration_s=10.0)
    constraints = {"qos": ThroughputConstraint(ki=1.0), "switching": SwitchingConstraint()}
    own = replace(ASKED, **asked)
    priced = PricedVecEnv(servers, constraints, asked=own)
    families = ["calm"] * (count // 2) + ["busy"] * (count - count // 2)
    return AskedVecEnv(priced, priced, own, families, seed=3), priced


def test_a_scale_reaches_from_0_to_about_1() -> None:
    assert SCALES["violation_limit"].encoded(0.0) == 0.0
    assert SCALES["violation_limit"].encoded(0.1) == pytest.approx(1.0)
    values = SCALES["violation_limit"].encoded([0.005, 0.02, 0.05])
    assert (np.diff(values) > 0.1).all()
    assert SCALES["switch_price"].encoded(1e9) == 2.0


def test_every_limit_is_asked_for_in_each_family() -> None:
    env, _ = make()
    env.reset()
    for _ in range(4):
        for half in (slice(0, 4), slice(4, 8)):
            assert sorted(env._limits[half]) == [0.01, 0.01, 0.1, 0.1]
        env.deal()


def test_it_is_shown_and_dealt_again_with_each_episode() -> None:
    env, _ = make()
    assert env.observation_space.shape == (30,)
    seen = env.reset()
    rows = [seen[:, -2].copy()]
    for step in range(20):
        seen, _, ended, infos = env.step(np.zeros((8, 2), dtype=np.int64))
        assert env.observation_space.contains(seen[0])
        if step < 19:
            np.testing.assert_array_equal(seen[:, -2], rows[0])
    assert ended.all()
    assert not np.array_equal(seen[:, -2], rows[0])
    last = np.array([info["terminal_observation"][-2] for info in infos])
    np.testing.assert_array_equal(last, rows[0])


def test_what_was_dealt_can_be_dealt_again() -> None:
    env, _ = make()
    for _ in range(3):
        env.deal()
    other, _ = make()
    other.go_on(env.dealt)
    np.testing.assert_array_equal(other._limits, env._limits)
    np.testing.assert_array_equal(other._switch_prices, env._switch_prices)
    assert other.dealt == env.dealt


def test_each_limit_has_its_price_and_switches_cost_what_is_asked() -> None:
    env, priced = make()
    assert {key: price.value for key, price in priced.prices.items() if "qos" in key} == {
        "qos/0.01": 2.0,
        "qos/0.1": 0.2,
    }
    env.reset()
    asked, costs = env._switch_prices.copy(), np.array([2.0, 0.2])[(env._limits > 0.05).astype(int)]
    env.step(np.tile([5, 5], (8, 1)))
    plain = priced._servers
    before = priced._reward_sum
    _, rewards, _, _ = env.step(np.tile([0, 5], (8, 1)))  # every cap moves
    unpriced = priced._reward_sum - before
    total = 1.0 + asked + costs
    assert plain.vector_info["cost"].sum() == 0.0  # still in the warm-up
    assert float((rewards * total + asked).sum()) == pytest.approx(unpriced)


def test_prices_rise_where_a_limit_is_exceeded_and_fall_where_it_is_not() -> None:
    _, priced = make()
    rates = {"qos/0.01": 0.05, "qos/0.1": 0.05}
    updates = PriceUpdates(priced, 1)
    updates.model = type("Model", (), {"_current_progress_remaining": 0.5, "logger": _Log()})()
    priced.take_rates = lambda: rates  # type: ignore[method-assign]
    updates.update()
    assert priced.prices["qos/0.01"].value > 2.0
    assert priced.prices["qos/0.1"].value < 0.2


class _Log:
    def record(self, key: str, value: float) -> None:
        """Takes nothing."""


def test_it_needs_the_constraint_whose_limit_it_draws() -> None:
    servers = make_vec_env(2, seed=0, duration_s=10.0)
    with pytest.raises(ConfigurationError, match="asked"):
        PricedVecEnv(servers, {}, asked=ASKED)


@pytest.fixture
def conditioned(bundle: Path, tmp_path: Path) -> Path:
    """The small bundle's agent with inputs for what it is asked, which it heeds."""
    env, _ = make()
    model = PPO("MlpPolicy", env, policy_kwargs=RECIPE_POLICY, n_steps=8, batch_size=16, seed=2)
    facts = read_bundle(bundle)
    entries = [*facts.observation, *described()]
    start_from(model, str(bundle), entries)
    first = model.policy.mlp_extractor.policy_net[0].weight.data
    assert not first[:, -2:].any()
    first[:, -2:] = 3.0
    folder = tmp_path / "conditioned"
    save_bundle(folder, replace(facts, observation=entries), model.policy)
    return folder


def test_an_agent_that_begins_with_a_bundle_acts_like_it(bundle: Path) -> None:
    env, _ = make()
    model = PPO("MlpPolicy", env, policy_kwargs=RECIPE_POLICY, n_steps=8, batch_size=16, seed=2)
    start_from(model, str(bundle), [*read_bundle(bundle).observation, *described()])
    plain = load_policy(bundle, read_bundle(bundle), env.action_space, "cpu")
    rows = np.random.default_rng(1).uniform(0, 1, (50, 28)).astype(np.float32)
    asked, _ = AskedPolicy(model.policy, 0.02, 0.0).predict(rows)
    np.testing.assert_array_equal(asked, plain.predict(rows, deterministic=True)[0])


def test_a_tilted_policy_prefers_higher_caps_the_stricter_the_limit(tmp_path: Path) -> None:
    env, _ = make()
    kwargs = {"net_arch": [16, 16]}
    model = PPO("MlpPolicy", env, policy_kwargs=kwargs, n_steps=8, batch_size=16, seed=2)
    rows = np.random.default_rng(1).uniform(0, 1, (300, 28)).astype(np.float32)
    before = AskedPolicy(model.policy, 0.02, 0.0).predict(rows)[0]
    tilt(model, 6, 2.0)
    caps = [
        AskedPolicy(model.policy, limit, 0.0).predict(rows)[0][:, 0].mean()
        for limit in (0.002, 0.02, 0.1)
    ]
    assert caps[0] > caps[1] > caps[2]
    after = AskedPolicy(model.policy, 0.02, 0.0).predict(rows)[0]
    assert (after == before).mean() > 0.5  # two units are gone, the rest is as it was
    one = PPO("MlpPolicy", env, policy_kwargs={"net_arch": [8]}, n_steps=8, batch_size=16)
    with pytest.raises(ConfigurationError, match="two hidden layers"):
        tilt(one, 6, 2.0)


def test_another_network_is_refused(bundle: Path) -> None:
    env, _ = make()
    entries = [*read_bundle(bundle).observation, *described()]
    wide = PPO("MlpPolicy", env, policy_kwargs={"net_arch": [16]}, n_steps=8, batch_size=16)
    with pytest.raises(ConfigurationError, match="shape"):
        start_from(wide, str(bundle), entries)
    deep = PPO("MlpPolicy", env, policy_kwargs={"net_arch": [8, 8]}, n_steps=8, batch_size=16)
    with pytest.raises(
        ConfigurationError, match=r"layers.*'\+agent\.arguments\.policy_kwargs\.net_arch=\[8\]'"
    ):
        start_from(deep, str(bundle), entries)
    with pytest.raises(ConfigurationError, match=r"something else .28 entries.*: 29 entries"):
        start_from(wide, str(bundle), entries[1:])
    remembered = Memory(entries=["power_w"]).shown(env.venv.venv.get_attr("context")[0].layout)
    with pytest.raises(ConfigurationError, match=r"\]\).*memory\.entries=\[power_w\].*until_s=\[2"):
        start_from(wide, str(bundle), [*remembered[-1:], *entries])
    with pytest.raises(ConfigurationError, match=r"^start: no bundle\.json in 'nowhere'"):
        start_from(wide, "nowhere", entries)


def test_it_is_a_controller_and_remembers_each_server(conditioned: Path, server: Any) -> None:
    agent = Agent(bundle=str(conditioned), violation_limit=0.02)
    assert isinstance(agent, Controller)
    agent.bind(server.context)
    episode = run_episode(server, agent, seed=3, duration_s=20.0)
    assert len(episode.table["output_tokens"]) == 40
    rows = np.random.default_rng(1).uniform(0, 1, (5, 28)).astype(np.float32)
    together, state = agent.predict(rows)
    alone = [agent.predict(row)[0] for row in rows]
    np.testing.assert_array_equal(together, np.stack(alone))
    _, (loop, _) = state
    assert loop.shown.shape == (5,)
    loop.shown[:] = 0.01
    _, (_, (again, _)) = agent.predict(rows, state, np.array([True, False, False, False, True]))
    np.testing.assert_allclose(again.shown, [0.02, 0.01, 0.01, 0.01, 0.02])


def test_the_limit_reaches_the_policy(conditioned: Path, server: Any) -> None:
    rows = np.random.default_rng(1).uniform(0, 1, (200, 28)).astype(np.float32)
    actions = []
    for limit in (0.002, 0.1):
        agent = Agent(bundle=str(conditioned), violation_limit=limit)
        agent.bind(server.context)
        actions.append(agent.predict(rows)[0])
    assert (actions[0] != actions[1]).any()


def test_a_bundle_with_other_scales_is_refused(conditioned: Path, server: Any) -> None:
    facts = read_bundle(conditioned)
    facts.observation[-1]["unit"] = 7.0
    agent = Agent(bundle=str(conditioned))
    agent.facts = facts
    with pytest.raises(ConfigurationError, match="scaled differently"):
        agent.bind(server.context)


QOS = QoSConfig(warmup_s=1.0)


def after(loop: LimitLoop, steps: int, qos: QoSConfig = QOS, **values: float) -> LoopState:
    from envs.observations import Observation

    usual = {"target_tok_s": 1000.0, "throughput_tok_s": 1000.0}
    seen = Observation(
        *(np.full(1, {**usual, **values}.get(name, 0.0)) for name in Observation._fields)
    )
    state = LoopState.start(1, 0.02)
    for _ in range(steps):
        state = state.after(loop, 0.02, seen, qos, 0.5)
    return state


SHORT = {"throughput_tok_s": 900.0, "waiting": 4.0, "oldest_wait_s": 2.0}


def test_the_shown_limit_falls_while_there_are_too_many_violations() -> None:
    loop = LimitLoop(memory_s=20.0, response_s=20.0)
    falling = [after(loop, steps, **SHORT).shown[0] for steps in (2, 10, 20, 400)]
    assert falling[0] == 0.02  # the warm-up does not count
    assert falling[0] > falling[1] > falling[2] > falling[3]
    assert falling[3] == loop.lowest


@pytest.mark.parametrize(("warmup_s", "counted"), [(0.0, 2), (1.0, 4), (1.2, 5)])
def test_the_loop_counts_from_the_interval_that_an_evaluation_begins_with(
    warmup_s: float, counted: int
) -> None:
    """What is observed first, at the reset, is no interval at all."""
    loop = LimitLoop(memory_s=20.0, response_s=20.0)
    qos = QoSConfig(warmup_s=warmup_s)
    shown = [after(loop, steps, qos, **SHORT).shown[0] for steps in range(8)]
    assert np.flatnonzero(np.diff(shown))[0] + 1 == counted


@pytest.mark.parametrize("values", [{"waiting": 0.0}, {"oldest_wait_s": 0.1}, {"target_tok_s": 0}])
def test_only_violations_that_a_server_knows_of_count(values: dict[str, float]) -> None:
    loop = LimitLoop(memory_s=20.0, response_s=20.0)
    state = after(loop, 40, **{**SHORT, **values})
    assert state.shown[0] >= 0.02
    assert after(loop, 4000).shown[0] == 0.02  # there may be more than it knows of
    trusting = LimitLoop(memory_s=20.0, response_s=20.0, slack=100.0)
    assert after(trusting, 4000).shown[0] == trusting.highest
    assert after(LimitLoop(active=False), 40, **SHORT).shown[0] == 0.02


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="prices"):
        Asked(limits=[0.01, 0.02], prices=[1.0])
    with pytest.raises(ConfigurationError, match="lowest"):
        LimitLoop(lowest=0.2, highest=0.1)


def test_the_entries_are_behind_the_servers() -> None:
    rows = np.zeros((3, 28), dtype=np.float32)
    seen = with_asked(rows, np.array([0.0, 0.1, 0.02]), 0.0)
    assert seen.shape == (3, 28 + len(SCALES))
    assert seen[1, -2] == pytest.approx(1.0)
    assert with_asked(rows[0], 0.1, 0.0).shape == (30,)
