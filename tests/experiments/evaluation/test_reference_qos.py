from __future__ import annotations

import numpy as np
import pytest

from baselines.fixed_knobs import FixedKnobs
from envs.factory import make_env
from envs.knobs import Knobs
from envs.objectives.qos import QoSConfig
from experiments.evaluation.baseline import reference_key, reference_tokens
from experiments.evaluation.qos import add_reference, after_warmup, violation_rate
from experiments.evaluation.rollout import run_episode
from experiments.records.interval_table import IntervalTable

QOS = QoSConfig(window_s=1.0, tolerance=0.05, warmup_s=1.0)


def table_of(throughput, target=1000.0):
    table = IntervalTable()
    for number, value in enumerate(throughput):
        table.append(
            {
                "time_s": 0.5 * (number + 1),
                "duration_s": 0.5,
                "throughput_tok_s": value,
                "target_tok_s": target,
            }
        )
    return table


def test_the_bar_is_the_lower_of_target_and_reference():
    table = table_of([0.0, 0.0, 700.0, 700.0, 900.0, 960.0])
    reference = np.array([400.0, 400.0, 400.0, 350.0, 600.0, 600.0])
    add_reference(table, reference, QOS, 0.5)
    # Windows of two intervals: 800, 800, 800, 750, 950, 1200 tokens/s.
    assert table["reference_tok_s"].tolist() == [800.0, 800.0, 800.0, 750.0, 950.0, 1200.0]
    # The bars are thus 760, 712.5, 902.5 and, by the target, 950 tokens/s.
    assert table["violation_reference"].tolist() == [0.0, 0.0, 1.0, 1.0, 1.0, 0.0]


def test_warmup_ends_with_the_first_interval_that_begins_after_it():
    assert after_warmup(table_of([1.0] * 4), QOS).tolist() == [False, False, True, True]


def test_a_reference_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        add_reference(table_of([1.0, 1.0]), np.array([1.0]), QOS, 0.5)


def test_a_rate_counts_the_intervals_after_the_warmup_and_those_that_were_down():
    table = table_of([0.0, 0.0, 700.0, 700.0, 900.0, 960.0])
    assert violation_rate(table, "reference", QOS) is None  # there is no such column yet
    add_reference(table, np.full(6, 400.0), QOS, 0.5)
    assert violation_rate(table, "reference", QOS) == 0.5
    assert violation_rate(table, "reference", QOS, down=2) == 4 / 6


def test_there_is_no_rate_without_a_target_or_an_evaluated_interval():
    for table in (table_of([1.0] * 4, target=0.0), table_of([1.0, 1.0])):
        add_reference(table, np.full(len(table), 400.0), QOS, 0.5)
        assert violation_rate(table, "reference", QOS, down=1) is None


def test_another_strategy_may_be_the_reference():
    table = table_of([0.0, 0.0, 700.0, 700.0])
    add_reference(table, np.full(4, 400.0), QOS, 0.5)
    add_reference(table, np.full(4, 300.0), QOS, 0.5, "within_budget")
    assert violation_rate(table, "reference", QOS) == 1.0
    assert violation_rate(table, "within_budget", QOS) == 0.0


def evaluated(config, knobs):
    env = make_env(config.scenario)
    held = FixedKnobs(knobs or env.context.highest)
    held.bind(env.context)
    table = run_episode(env, held, seed=config.seed, duration_s=config.duration).table
    add_reference(
        table, reference_tokens(config.scenario, config.seed), env.context.qos, config.interval
    )
    return table


def test_baseline_never_violates_qos_against_itself(compose):
    for objective in ("throughput_target", "moving_target", "power_budget"):
        table = evaluated(compose("seed=3", f"objective={objective}"), None)
        assert table["violation_reference"].sum() == 0
        np.testing.assert_allclose(table["reference_tok_s"], table["throughput_tok_s"])


def test_a_starved_server_violates_qos(compose):
    table = evaluated(compose("seed=3"), Knobs(400.0, 1))
    assert table["violation_reference"][60:].mean() > 0.9


def test_the_reference_is_cached_and_a_damaged_one_is_made_again(compose, empty_cache):
    config = compose("duration=10")
    tokens = reference_tokens(config.scenario, config.seed)
    (file,) = (empty_cache / "references").iterdir()
    stamp = file.stat().st_mtime_ns
    np.testing.assert_array_equal(reference_tokens(config.scenario, config.seed), tokens)
    assert file.stat().st_mtime_ns == stamp
    file.write_bytes(b"damaged")
    np.testing.assert_array_equal(reference_tokens(config.scenario, config.seed), tokens)


def key_of(config):
    return reference_key(config.scenario, config.seed)


def test_the_reference_depends_on_the_arrivals_and_not_on_the_demands(compose):
    key = key_of(compose())
    for same in ("controller=governor", "objective=demand_response", "reward=efficiency_only",
                 "tracker=wandb", "debug=on"):  # fmt: skip
        assert key_of(compose(same)) == key, same
    for other in ("seed=1", "workload.load=0.5", "duration=61", "interval=1.0",
                  "model=olmoe_1b_7b", "gpu=h100_sxm", "server.tensor_parallel=2",
                  "env.domain_randomization=true"):  # fmt: skip
        assert key_of(compose(other)) != key, other
