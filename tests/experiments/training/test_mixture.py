"""The training mixture: even, random, repeatable, and apart from the test suite."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from envs import catalog
from envs.errors import ConfigurationError
from experiments.evaluation.suites import SuiteScenario
from experiments.training.mixture import (
    Mixture,
    MixtureScenario,
    MixtureServer,
    calibrations,
    saturated_tpot_s,
)


def draw(mixture, count=24, seed=0):
    return mixture.draw(count, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def mixture():
    return catalog.build("mixture", "default")


def test_entries_come_equally_often():
    servers = [MixtureServer(model=name) for name in ("mixtral_8x7b", "olmoe_1b_7b")]
    mixture = Mixture(
        servers=servers,
        scenarios={"one": MixtureScenario(workloads=["poisson_gsm8k", "bursty", "diurnal"])},
    )
    drawn = draw(mixture, 12)
    assert set(Counter(scenario.model for scenario in drawn).values()) == {6}
    assert set(Counter(type(scenario.workload) for scenario in drawn).values()) == {4}


def test_scenarios_get_their_fraction(mixture):
    drawn = Counter(scenario.family for scenario in draw(mixture, 110))
    total = sum(scenario.weight for scenario in mixture.scenarios.values())
    for name, scenario in mixture.scenarios.items():
        assert drawn[name] == pytest.approx(110 * scenario.weight / total, abs=1)
    assert len(draw(mixture, 7)) == 7


def test_the_same_seed_draws_the_same(mixture):
    assert draw(mixture, 20, seed=4) == draw(mixture, 20, seed=4)
    assert draw(mixture, 20, seed=4) != draw(mixture, 20, seed=5)


def test_loads_and_lengths_stay_in_their_ranges():
    mixture = Mixture(scenarios={"one": MixtureScenario(load=[0.4, 0.9])}, prompt_scale=[0.5, 2.0])
    drawn = [scenario.workload for scenario in draw(mixture, 60)]
    for key, (low, high) in {"load": (0.4, 0.9), "prompt_scale": (0.5, 2.0)}.items():
        values = [getattr(workload, key) for workload in drawn]
        assert low <= min(values) < max(values) <= high
        assert max(values) - min(values) > 0.8 * (high - low)
    assert {workload.output_scale for workload in drawn} == {1.0}


def test_a_tpot_slo_suits_its_server():
    mixture = Mixture(
        servers=[
            MixtureServer(model="olmoe_1b_7b", server={"base": "simulated", "tensor_parallel": 1}),
            MixtureServer(),
        ],
        scenarios={"one": MixtureScenario(objectives=["latency_slo"], tpot_slo=[0.8, 0.8])},
    )
    for scenario in draw(mixture, 4):
        assert scenario.objective.tpot_slo_s == pytest.approx(0.8 * saturated_tpot_s(scenario))
    assert len({scenario.objective.tpot_slo_s for scenario in draw(mixture, 2)}) == 2


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        (lambda: Mixture(servers=[], scenarios={"one": MixtureScenario()}), "servers"),
        (lambda: Mixture(), "scenarios"),
        (
            lambda: Mixture(scenarios={"one": MixtureScenario()}, prompt_scale=[2.0, 1.0]),
            "prompt_scale",
        ),
        (lambda: MixtureScenario(load=[0.5]), "load"),
        (lambda: MixtureScenario(objectives=[]), "objectives"),
        (lambda: MixtureScenario(weight=0.0), "weight"),
    ],
)
def test_mistakes_are_named(wrong, key):
    with pytest.raises(ConfigurationError, match=rf"mixture\..*{key}"):
        wrong()


def test_all_servers_fraction_one_action_space(mixture):
    spaces = {
        str(
            scenario.make(
                action="grid", reward="default", interval_s=0.5, duration_s=10.0
            ).action_space
        )
        for scenario in draw(mixture, len(mixture.servers))
    }
    assert spaces == {"MultiDiscrete([6 6])"}


def test_training_and_test_scenarios_are_apart(mixture):
    """Other seeds everywhere; a model, a GPU and a trace that training never meets."""
    suites = [catalog.build("suite", name) for name in ("held_out", "test")]
    seeds = sorted(suite.seed for suite in suites)
    assert seeds[0] >= 100_000
    assert seeds[1] - seeds[0] >= 100_000
    scenarios = mixture.scenarios.values()
    servers = [*mixture.servers, *(one for scenario in scenarios for one in scenario.servers)]
    trained = {server.model for server in servers}
    gpus = {server.gpu for server in servers}
    chosen = [workload for scenario in scenarios for workload in scenario.workloads]
    workloads = {type(catalog.build("workload", one)).__name__ for one in chosen}
    tested = suites[1].scenarios.values()
    assert {scenario.model for scenario in tested} - trained
    assert {scenario.gpu for scenario in tested} - gpus
    assert not workloads & {"AzureConv", "Mooncake"}
    assert any("azure_conv" in repr(scenario.workload) for scenario in tested)


def test_calibrations_are_named_once():
    scenarios = [
        SuiteScenario(),
        SuiteScenario(gpu="a100_sxm4_40gb"),
        SuiteScenario(gpu="a100_sxm4_80gb_500w"),
        SuiteScenario(gpu="h200_sxm"),
    ]
    assert calibrations(scenarios) == ["a100_sxm4_40gb", "a100_sxm4_80gb", "h200_sxm"]
