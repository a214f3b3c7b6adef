from __future__ import annotations

import numpy as np
import pytest

from baselines.fixed_knobs import FixedKnobs
from envs import catalog
from envs.factory import make_env
from envs.knobs import Knobs
from experiments.evaluation.rollout import run_episode


def run(config, controller, seed=1, **options):
    env = make_env(config.scenario)
    controller.bind(env.context)
    return run_episode(env, controller, seed=seed, duration_s=config.duration, **options)


def test_same_seed_same_numbers_bit_for_bit(compose):
    config = compose()
    first, again, other = (
        run(config, catalog.build("controller", "governor"), seed).table for seed in (1, 1, 2)
    )
    assert first.names == again.names
    for name in first.names:
        np.testing.assert_array_equal(first[name], again[name], err_msg=name)
    assert (first["output_tokens"] != other["output_tokens"]).any()


def test_a_used_environment_repeats_itself_too(compose):
    config = compose("duration=20")
    env = make_env(config.scenario)
    held = FixedKnobs(env.context.highest)
    held.bind(env.context)
    runs = [run_episode(env, held, seed=seed, duration_s=20).table for seed in (5, 6, 5)]
    np.testing.assert_array_equal(runs[0]["energy_gpu_j"], runs[2]["energy_gpu_j"])
    assert (runs[0]["energy_gpu_j"] != runs[1]["energy_gpu_j"]).any()


@pytest.mark.parametrize("action", ["grid", "joint", "continuous"])
def test_every_encoding_holds_the_same_knobs(compose, action):
    config = compose("duration=5", f"action={action}")
    table = run(config, FixedKnobs(Knobs(250.0, 16))).table
    np.testing.assert_allclose(table["requested_power_cap_w"], 250.0, rtol=1e-6)
    assert set(table["requested_max_num_seqs"]) == {16.0}


def test_the_callback_sees_every_interval_in_order(compose):
    seen = []
    config = compose("duration=3", "interval=0.25")
    table = run(
        config,
        catalog.build("controller", "static"),
        on_interval=lambda number, row: seen.append((number, row["time_s"])),
    ).table
    assert [number for number, _ in seen] == list(range(12)) == list(range(len(table)))
    assert [time for _, time in seen] == pytest.approx(np.arange(0.25, 3.01, 0.25))


def test_requests_are_conserved_in_every_interval(compose):
    table = run(compose("workload.load=1.3"), catalog.build("controller", "random")).table
    known = np.cumsum(table["finished"] + table["rejected"]) + table["running"] + table["waiting"]
    np.testing.assert_array_equal(np.cumsum(table["arrivals"]), known)
    assert table["waiting"].max() > 0


def test_a_live_servers_extra_definitions_are_recorded(compose):
    config = compose("duration=2")
    env = make_env(config.scenario)
    env.system.extras = {"interval_overrun_s": 0.003}
    held = FixedKnobs(env.context.highest)
    held.bind(env.context)
    table = run_episode(env, held, seed=0, duration_s=2).table
    assert table["interval_overrun_s"].tolist() == [0.003] * 4
