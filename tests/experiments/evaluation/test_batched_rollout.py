"""Episodes that run together give the numbers of those that run one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.clock_times import without_clock_times

from baselines.fixed_knobs import FixedKnobs
from envs.errors import ConfigurationError
from envs.knobs import Knobs
from experiments.benchmarking.scenario_runs import ScenarioRuns
from experiments.evaluation.batched_rollout import (
    Assignment,
    Episodes,
    run_batch,
    vector_of,
)
from experiments.evaluation.metric_table import WITHIN_BUDGET
from experiments.evaluation.rollout import run_episode
from experiments.evaluation.suites import SuiteScenario
from experiments.runs.runner import execute

SECONDS = 75.0
SCENARIOS = {
    "budget": SuiteScenario(workload={"base": "bursty", "load": 0.8}, objective="budget_steps"),
    "slo": SuiteScenario(
        model="olmoe_1b_7b",
        server={"base": "simulated", "tensor_parallel": 1},
        objective={"base": "latency_slo", "tpot_slo_s": 0.02},
    ),
}


def run_of(compose, scenario, controller, seed):
    """The single run that a batched episode has to equal."""
    config = compose(f"controller={controller}", f"seed={seed}", f"duration={SECONDS}")
    return scenario.scenario(config.scenario), config.options(controller)


@pytest.mark.parametrize("controller", ["static", "governor", "pals"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_metrics_equal_those_of_single_runs(compose, tmp_path, controller, name):
    scenario = SCENARIOS[name]
    config = compose("duration=75", name="benchmark")
    runs = ScenarioRuns(
        config.scenario, config.profile, name, scenario, [11, 12], tmp_path / "runs"
    )
    together = runs.run(controller, controller)
    for seed, summary in zip([11, 12], together, strict=True):
        single = execute(*run_of(compose, scenario, controller, seed), tmp_path / f"{seed}")
        del single["provenance"]
        within = summary.pop(WITHIN_BUDGET)
        for key in ("decision_p50_s", "decision_p99_s"):
            assert 0.0 < summary.pop(key) < 1.0
            assert 0.0 < single.pop(key) < 1.0
        assert summary == single
        assert within is None or within <= single["qos_violation_rate"]


@pytest.mark.parametrize("name", ["../out", "a/b", "/tmp/x", "..", ".", "", "a\\b", "a\0b"])
@pytest.mark.parametrize("whose", ["scenario", "controller"])
def test_a_name_that_leads_elsewhere_is_refused(compose, tmp_path, name, whose):
    config = compose("duration=75", name="benchmark")
    scenario = name if whose == "scenario" else "budget"
    runs = ScenarioRuns(
        config.scenario, config.profile, scenario, SCENARIOS["budget"], [1], tmp_path / "runs"
    )
    with pytest.raises(ConfigurationError, match="names a file"):
        runs.run(name if whose == "controller" else "static", "static")
    assert not list(tmp_path.iterdir())


def test_who_takes_all_that_the_budget_leaves_violates_nothing_within_it(compose, tmp_path):
    """Though it violates against a Baseline that knows no budget."""
    config = compose("duration=300", name="benchmark")
    runs = ScenarioRuns(
        config.scenario, config.profile, "budget", SCENARIOS["budget"], [11, 12], tmp_path / "runs"
    )
    highest = runs.run("static_dynamic_cap", "static_dynamic_cap")
    assert [summary[WITHIN_BUDGET] for summary in highest] == [0.0, 0.0]
    assert min(summary["qos_violation_rate"] for summary in highest) > 0.05
    lowest = runs.run("static", {"base": "static", "power_cap_w": 150.0})
    assert min(summary[WITHIN_BUDGET] for summary in lowest) > 0.02


def test_the_oracle_chooses_as_in_a_single_run(compose, tmp_path):
    config = compose(
        f"duration={SECONDS}", "action.power_caps_w=[200,400]", "action.max_num_seqs=[16,64]",
        name="benchmark",
    )  # fmt: skip
    runs = ScenarioRuns(
        config.scenario,
        config.profile,
        "budget",
        SCENARIOS["budget"],
        [11, 12, 13],
        tmp_path / "runs",
    )
    together = runs.run("oracle", "oracle")
    scenario, options = run_of(compose, SCENARIOS["budget"], "oracle", 13)
    same = replace(scenario, action=config.action)
    expected = execute(same, options, tmp_path / "single")
    del expected["provenance"]
    del together[2][WITHIN_BUDGET]
    assert without_clock_times(together[2]) == without_clock_times(expected)


def test_every_column_of_the_table_is_the_same():
    env = SCENARIOS["slo"].make(action="grid", reward="default", interval_s=0.5, duration_s=40.0)
    knobs = [Knobs(200.0, 16), Knobs(400.0, 64)]
    held = FixedKnobs.per_server(knobs)
    held.bind(env.context)
    episodes = run_batch(
        vector_of([env, env]), [Assignment(held, np.arange(2))], seeds=[3, 3], duration_s=40.0
    )
    for knob, episode in zip(knobs, episodes, strict=True):
        alone = FixedKnobs(knob)
        alone.bind(env.context)
        single = run_episode(env, alone, seed=3, duration_s=40.0)
        for column in episode.table.names:
            np.testing.assert_array_equal(episode.table[column], single.table[column], column)
        assert set(single.table.names) - set(episode.table.names) == {"gpu0_power_w"}
        np.testing.assert_array_equal(episode.latency.ttft, single.latency.ttft)


def test_scenarios_and_controllers_share_a_vector_without_mixing():
    envs = {
        name: scenario.make(action="grid", reward="default", interval_s=0.5, duration_s=40.0)
        for name, scenario in SCENARIOS.items()
    }
    both = Episodes(envs, seeds=[1, 2], duration_s=40.0)
    assert [both.members[name].tolist() for name in envs] == [[0, 1], [2, 3]]
    held = FixedKnobs.per_server([Knobs(200.0, 32)] * 2)
    assignments = []
    for name, env in envs.items():
        held = FixedKnobs.per_server([Knobs(200.0, 32)] * 2)
        held.bind(env.context)
        assignments.append(Assignment(held, both.members[name]))
    together = both.run(assignments)
    for name, env in envs.items():
        alone = Episodes({name: env}, seeds=[1, 2], duration_s=40.0)
        held = FixedKnobs.per_server([Knobs(200.0, 32)] * 2)
        held.bind(env.context)
        assert alone.run([Assignment(held, np.arange(2))])[name] == together[name]


def test_every_interval_is_told_with_its_number() -> None:
    from envs.factory import make_env
    from envs.scenario import Scenario

    env = make_env(Scenario(duration_s=2.0))
    held = FixedKnobs(Knobs(300.0, 32, None))
    held.bind(env.context)
    told: list[tuple[int, int]] = []
    run_batch(
        vector_of([env]), [Assignment(held, np.arange(1))], seeds=[0], duration_s=2.0,
        on_step=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
