"""Prices follow costs, and costs are what the summaries report."""

from __future__ import annotations

import numpy as np
import pytest

from agents.constraints import (
    BudgetConstraint,
    LatencyConstraint,
    SwitchingConstraint,
    ThroughputConstraint,
)
from agents.lagrangian import PricedVecEnv, PriceUpdates
from agents.vec_env import make_vec_env
from baselines.fixed_knobs import FixedKnobs
from envs.errors import ConfigurationError
from envs.factory import make_simulated
from envs.knobs import Knobs
from experiments.evaluation.batched_rollout import Assignment, Episodes


def updated(constraint, rates):
    price = constraint.start()
    values = []
    for rate in rates:
        price = constraint.update(price, rate)
        values.append(price.value)
    return values


def test_the_price_rises_above_the_limit_and_falls_below_it():
    constraint = ThroughputConstraint(limit=0.02, ki=0.5, smoothing=0.0)
    rising = updated(constraint, [0.1] * 5)
    assert rising == pytest.approx([1.0 + 0.04 * n for n in range(1, 6)])
    falling = updated(constraint, [0.0] * 5)
    assert falling == pytest.approx([1.0 - 0.01 * n for n in range(1, 6)])


def test_the_price_stays_within_its_bounds_and_does_not_wind_up():
    constraint = ThroughputConstraint(
        limit=0.02, ki=1.0, smoothing=0.0, initial=1.0, lowest=0.5, highest=2.0
    )
    values = updated(constraint, [1.0] * 50 + [0.0] * 1)
    assert max(values) == 2.0
    assert values[-1] == pytest.approx(2.0 - 0.02)
    assert min(updated(constraint, [0.0] * 100)) == 0.5


def test_proportional_and_derivative_gains_react_to_level_and_rise():
    level = ThroughputConstraint(limit=0.0, ki=0.0, kp=2.0, smoothing=0.0)
    assert updated(level, [0.1, 0.2]) == pytest.approx([1.2, 1.4])
    rise = ThroughputConstraint(limit=0.0, ki=0.0, kd=3.0, smoothing=0.0)
    assert updated(rise, [0.1, 0.2, 0.1]) == pytest.approx([1.0, 1.3, 1.0])


def test_a_loose_limit_is_tightened_while_the_training_goes_on():
    constraint = ThroughputConstraint(loose=0.08, limit=0.02, tight_from=0.5, smoothing=0.0, ki=1.0)
    limits = [constraint.limit_at(progress) for progress in (0.0, 0.25, 0.5, 1.0)]
    assert limits == pytest.approx([0.08, 0.04, 0.02, 0.02])
    start = constraint.start()
    assert constraint.update(start, 0.05, constraint.limit_at(0.0)).value < start.value
    assert constraint.update(start, 0.05, constraint.limit_at(0.5)).value > start.value
    never = ThroughputConstraint(loose=0.08, limit=0.0, tight_from=0.5)
    assert never.limit_at(0.25) == pytest.approx(0.04)
    assert ThroughputConstraint(limit=0.02).limit_at(0.0) == 0.02


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": -0.1},
        {"smoothing": 1.0},
        {"initial": 9.0},
        {"ki": -1.0},
        {"loose": 0.01, "limit": 0.02},
        {"tight_from": 0.0},
    ],
)
def test_values_out_of_range_are_named(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        ThroughputConstraint(**wrong)


def test_a_lowest_price_above_the_highest_is_told_as_such():
    with pytest.raises(ConfigurationError, match=r"lowest: must be <= highest \(8\.0\), got 100"):
        ThroughputConstraint(lowest=100.0, highest=8.0)


SCENARIO = {
    "workload": {"base": "poisson_gsm8k", "load": 0.9},
    "reward": "constrained",
    "objective": {
        "base": "latency_slo", "tpot_slo_s": 0.03, "ttft_slo_s": 1.0,
        "power_budget": {
            "_target_": "envs.objectives.signals.Steps", "levels": [0.9, 0.4], "every_s": 20.0,
        },
    },
    "duration_s": 90.0,
}  # fmt: skip


def test_costs_are_the_rates_of_the_metrics():
    """Slow knobs that violate everything: the rates of the training are those of the metrics."""
    env = make_simulated(**SCENARIO)
    knobs = Knobs(200.0, 16)
    episodes = Episodes({"one": env}, seeds=[5], duration_s=90.0)
    held = FixedKnobs.per_server([knobs])
    held.bind(env.context)
    assignments = [Assignment(held, np.array([0]))]
    (metrics,) = episodes.run(assignments)["one"]
    (episode,) = episodes._run(assignments)

    servers = make_vec_env(1, max_episode_steps=10_000, **SCENARIO)
    servers.seed(5)
    constraints = {
        "qos": ThroughputConstraint(), "slo": LatencyConstraint(), "budget": BudgetConstraint()
    }  # fmt: skip
    priced = PricedVecEnv(servers, constraints)
    priced.reset()
    action = env.encoding.encode(knobs, Knobs(400.0, 64))[None]
    missed = finished = 0.0
    for _ in range(180):
        priced.step(action)
        telemetry = servers.vector_info["telemetry"]
        missed += float(telemetry.slo_missed[0])
        finished += float(telemetry.finished[0])
    rates = priced.take_rates()
    # Of the violations those count that the budget does not dictate: 0.4 leaves no cap above.
    cost, budget_w = episode.table["cost"], episode.table["power_budget_w"]
    free = (budget_w > 0.5 * budget_w.max()) & (np.arange(180) >= 60)
    assert rates["qos"] == pytest.approx(cost[free].mean())
    assert cost[60:].mean() == pytest.approx(metrics.qos_violation_rate)
    assert rates["budget"] == pytest.approx(metrics.budget_overshoot_rate)
    assert 0.0 < rates["qos"] <= 1.0
    assert 0.0 < rates["budget"] < 1.0
    # The rate of the latency cost is the mean over intervals of each one's share.
    assert rates["slo"] > 0.0
    assert missed <= finished


def test_what_does_not_apply_is_not_evaluated():
    servers = make_vec_env(2, max_episode_steps=200, seed=0)
    priced = PricedVecEnv(servers, {"slo": LatencyConstraint(), "budget": BudgetConstraint()})
    priced.reset()
    for _ in range(20):
        priced.step(np.array([[5, 5]] * 2))
    assert priced.take_rates() == {}


def test_moved_knobs_are_counted_as_in_the_metrics():
    """The switching cost is one for each interval whose action asks for other knobs."""
    servers = make_vec_env(2, max_episode_steps=1_000, seed=0)
    priced = PricedVecEnv(servers, {"switching": SwitchingConstraint()})
    priced.reset()
    last = len(servers.env.contexts[0].grid.power_caps_w) - 1
    for index in range(20):  # the first moves its cap in every second interval, the other never
        seqs = priced.action_space.nvec[1] - 1
        priced.step(np.array([[last - index // 2 % 2, seqs], [last, seqs]]))
    assert priced.take_rates() == {"switching": pytest.approx(9 / 40)}


def test_rewards_are_priced_and_kept_in_scale(servers):
    constraint = ThroughputConstraint(initial=3.0)
    priced = PricedVecEnv(servers, {"qos": constraint})
    priced.reset()
    lows = np.array([[0, 0]] * 4)
    for _ in range(75):
        _, rewards, _, _ = priced.step(lows)
        plain = sum(servers.vector_info["rewards"].values())
        cost = servers.vector_info["cost"]
        np.testing.assert_allclose(rewards, (plain - 3.0 * cost) / 4.0)
    assert servers.vector_info["cost"].max() == 1.0


def test_a_separate_constraint_has_a_price_for_each_group(servers):
    constraints = {"qos": ThroughputConstraint(separate=True, initial=1.0, ki=1.0, smoothing=0.0)}
    priced = PricedVecEnv(servers, constraints, groups=["calm", "calm", "busy", "busy"])
    assert set(priced.prices) == {"qos/calm", "qos/busy"}
    priced.reset()
    highest, lowest = priced.action_space.nvec - 1, np.zeros(2, dtype=int)
    priced.prices["qos/busy"] = priced.prices["qos/busy"]._replace(value=3.0)
    for _ in range(75):
        _, rewards, _, _ = priced.step(np.array([highest, highest, lowest, lowest]))
        plain = sum(servers.vector_info["rewards"].values())
        price = np.array([1.0, 1.0, 3.0, 3.0])
        cost = servers.vector_info["cost"]
        np.testing.assert_allclose(rewards, (plain - price * cost) / (1.0 + price))
    rates = priced.take_rates()
    assert rates["qos/calm"] < 0.2 < rates["qos/busy"]
    assert priced.constraint_of("qos/busy") is constraints["qos"]


def test_prices_move_while_an_algorithm_learns(servers):
    from agents.recipe import Recipe

    priced = PricedVecEnv(servers, {"qos": ThroughputConstraint(ki=5.0, limit=0.0)})
    recipe = Recipe(arguments={"policy": "MlpPolicy", "n_steps": 16, "batch_size": 32})
    model = recipe.make(priced, seed=0, device="cpu")
    model.learn(64 * 6, callback=PriceUpdates(priced, every=64))
    assert priced.prices["qos"].value > 1.0
    assert priced.prices["qos"].rate > 0.0
