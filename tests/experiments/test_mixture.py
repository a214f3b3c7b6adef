"""The training mixture: even, random, repeatable, and apart from the test suite."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from envs import catalog
from envs.errors import ConfigurationError
from experiments.mixture import Mixture, MixtureServer, calibrations, saturated_tpot_s
from experiments.suites import SuiteSetting


def draw(mixture, count=24, seed=0):
    return mixture.draw(count, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def mixture():
    return catalog.build("mixture", "default")


def test_entries_come_equally_often(mixture):
    cards = len(mixture.servers) * 2
    drawn = draw(mixture, cards)
    counts = Counter((repr(s.model), repr(s.gpu), repr(s.server)) for s in drawn)
    assert set(counts.values()) == {2}


def test_the_same_seed_draws_the_same(mixture):
    assert draw(mixture, 20, seed=4) == draw(mixture, 20, seed=4)
    assert draw(mixture, 20, seed=4) != draw(mixture, 20, seed=5)


def test_loads_and_lengths_stay_in_their_ranges(mixture):
    drawn = draw(mixture, 60)
    for key in ("load", "prompt_scale", "output_scale"):
        low, high = getattr(mixture, key)
        values = [getattr(setting.workload, key) for setting in drawn]
        assert low <= min(values) < max(values) <= high
        assert max(values) - min(values) > 0.5 * (high - low)


def test_a_tpot_slo_suits_its_server():
    mixture = Mixture(
        servers=[
            MixtureServer(model="olmoe_1b_7b", server={"base": "simulated", "tensor_parallel": 1}),
            MixtureServer(),
        ],
        objectives=[{"base": "latency_slo"}],
        tpot_slo=[0.8, 0.8],
    )
    for setting in draw(mixture, 4):
        assert setting.objective.tpot_slo_s == pytest.approx(0.8 * saturated_tpot_s(setting))
    slos = {repr(s.model): s.objective.tpot_slo_s for s in draw(mixture, 2)}
    assert len(set(slos.values())) == 2


def test_fixed_settings_get_their_share():
    also = [SuiteSetting(family="fixed")]
    drawn = draw(Mixture(also=also, also_share=0.25), 8)
    assert sum(setting.family == "fixed" for setting in drawn) == 2


@pytest.mark.parametrize(
    "wrong",
    [{"servers": []}, {"load": [1.0, 0.5]}, {"load": [0.5]}, {"also_share": 0.5}],
)
def test_mistakes_are_named(wrong):
    with pytest.raises(ConfigurationError, match=f"mixture.{next(iter(wrong))}"):
        Mixture(**wrong)


def test_all_servers_share_one_action_space(mixture):
    spaces = {
        str(
            setting.make(
                action="grid", reward="default", interval_s=0.5, duration_s=10.0
            ).action_space
        )
        for setting in draw(mixture, len(mixture.servers))
    }
    assert spaces == {"MultiDiscrete([6 6])"}


def test_training_and_test_settings_are_apart(mixture):
    """Other seeds everywhere; a model, a GPU and a trace that training never meets."""
    suites = [catalog.build("suite", name) for name in ("held_out", "test")]
    seeds = sorted(suite.seed for suite in suites)
    assert seeds[0] >= 100_000
    assert seeds[1] - seeds[0] >= 100_000
    trained = {server.model for server in mixture.servers}
    gpus = {server.gpu for server in mixture.servers}
    workloads = {type(catalog.build("workload", w)).__name__ for w in mixture.workloads}
    tested = suites[1].settings.values()
    assert {setting.model for setting in tested} - trained
    assert {setting.gpu for setting in tested} - gpus
    assert not workloads & {"AzureConv", "Mooncake"}
    assert any("azure_conv" in repr(setting.workload) for setting in tested)


def test_calibrations_are_named_once():
    settings = [SuiteSetting(), SuiteSetting(gpu="a100_sxm4_40gb"), SuiteSetting(gpu="h200_sxm")]
    assert calibrations(settings) == ["a100_sxm4", "h100_sxm"]
