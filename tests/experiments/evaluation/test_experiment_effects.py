"""Effects that the default scenario and the experiments of conf are meant to show."""

from __future__ import annotations

import pytest

from baselines.fixed_knobs import FixedKnobs
from envs.factory import make_env
from envs.knobs import Knobs
from experiments.evaluation.baseline import reference_tokens
from experiments.evaluation.metrics import summarise
from experiments.evaluation.qos import add_reference
from experiments.evaluation.rollout import run_episode
from experiments.runs.options import RunOptions
from experiments.runs.preparation import RunPreparation
from experiments.runs.runner import execute


def held(config, env, knobs):
    """Metrics of knobs that are held throughout."""
    controller = FixedKnobs(knobs)
    controller.bind(env.context)
    episode = run_episode(env, controller, seed=config.seed, duration_s=config.duration)
    add_reference(
        episode.table,
        reference_tokens(config.scenario, config.seed),
        env.context.qos,
        config.interval,
    )
    return summarise(episode, env.context)


def by_batch(config):
    env = make_env(config.scenario)
    highest = env.context.highest.power_cap_w
    return {
        batch: held(config, env, Knobs(highest, batch)) for batch in env.context.grid.max_num_seqs
    }


def test_a_tpot_slo_that_binds_asks_for_a_smaller_batch(compose):
    found = by_batch(compose("experiment=tpot_slo", "duration=400"))
    largest, best = found[64], min(found.values(), key=lambda f: f.slo_violation_rate)
    assert largest.slo_violation_rate > 0.15
    assert best.slo_violation_rate < 0.5 * largest.slo_violation_rate
    assert best.tokens_per_joule > 0.97 * largest.tokens_per_joule


def test_a_full_kv_cache_asks_for_a_smaller_batch(compose):
    found = by_batch(compose("experiment=kv_pressure", "duration=800"))
    largest, best = found[128], max(found.values(), key=lambda f: f.tokens_per_joule)
    assert largest.preemptions > 200
    assert best.preemptions == 0
    assert best.tokens_per_joule > largest.tokens_per_joule
    assert best.tpot_p99_s < 0.6 * largest.tpot_p99_s
    assert best.slo_violation_rate < 0.1 < 0.5 < largest.slo_violation_rate


def test_the_oracle_holds_the_best_static_knobs_within_its_limit(compose, tmp_path):
    small = ("action.power_caps_w=[150,200,250,400]", "action.max_num_seqs=[16,32,64]")
    config = compose("controller=oracle", "duration=200", "seed=2", *small)
    oracle = execute(config.scenario, config.options("oracle"), tmp_path)
    env = make_env(config.scenario)
    every = [held(config, env, knobs) for knobs in env.context.grid.choices]
    within = [f.tokens_per_joule for f in every if f.qos_violation_rate <= 0.05]
    assert 1 <= len(within) < len(every)
    assert oracle["tokens_per_joule"] == pytest.approx(max(within), rel=1e-9)
    assert oracle["qos_violation_rate"] <= 0.05
    assert max(f.tokens_per_joule for f in every) >= oracle["tokens_per_joule"]


def test_looking_ahead_agrees_with_running(compose):
    config = compose("duration=60", "objective=power_budget")
    env = make_env(config.scenario)
    knobs = Knobs(250.0, 32)
    preparation = RunPreparation(
        config.scenario, config.options("oracle"), reference_tokens(config.scenario, config.seed)
    )
    (outcome,) = preparation.evaluate([knobs])
    summary = held(config, env, knobs)
    assert outcome.tokens_per_joule == summary.tokens_per_joule
    assert outcome.qos_violation_rate == summary.qos_violation_rate
    assert outcome.budget_overshoot_rate == summary.budget_overshoot_rate


@pytest.mark.parametrize(
    "duration",
    [pytest.param(300, id="300s"), pytest.param(1200, id="1200s", marks=pytest.mark.long)],
)
def test_in_the_default_scenario_pals_and_the_governor_save_energy(compose, tmp_path, duration):
    figures = {
        name: execute(
            compose(f"duration={duration}").scenario,
            RunOptions(seed=1, controller=name, controller_name=name),
            tmp_path / name,
        )
        for name in ("static", "pals", "governor")
    }
    base = figures["static"]["tokens_per_joule"]
    assert figures["static"]["qos_violation_rate"] == 0.0
    for name, most in (("pals", 0.25), ("governor", 0.10)):
        assert figures[name]["tokens_per_joule"] > 1.04 * base, name
        assert figures[name]["qos_violation_rate"] < most, name
