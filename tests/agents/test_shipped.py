"""The agent that comes with the project: it loads, is up to date, and has learned something."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from agents.bundle import SHIPPED, calibration_hash, find_bundle, read_bundle
from agents.controller import Agent
from envs import catalog
from experiments.batched import Episodes, HeldSettings, Share
from experiments.suites import SuiteSetting

SEEDS = (2_000_001, 2_000_002)
SECONDS = 300.0
LIMIT_KB = 200
SETTINGS = {
    "steady": SuiteSetting(workload={"base": "poisson_gsm8k", "load": 0.6}),
    "bursty": SuiteSetting(workload={"base": "bursty", "load": 0.5}),
    "unseen": SuiteSetting(
        model="olmoe_1b_7b",
        gpu="h200_sxm",
        server={"base": "simulated", "tensor_parallel": 1},
        workload={"base": "poisson_gsm8k", "load": 0.6},
    ),
}


@pytest.fixture(scope="module")
def played():
    """Figures of Baseline and of the agent on the same episodes."""
    envs = {
        name: setting.make(action="grid", reward="constrained", interval_s=0.5, duration_s=SECONDS)
        for name, setting in SETTINGS.items()
    }
    episodes = Episodes(envs, SEEDS, SECONDS)
    both = []
    for make in (lambda env: HeldSettings([env.context.highest] * 2), lambda env: _agent()):
        shares = []
        for name, env in envs.items():
            controller = make(env)
            controller.bind(env.context)
            shares.append(Share(controller, episodes.members[name]))
        both.append(episodes.run(shares))
    return both


def _agent() -> Agent:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a stale calibration would warn
        return catalog.build("controller", "ppo")


def test_it_is_small_and_was_trained_on_the_calibrations_of_today() -> None:
    folder = find_bundle("ppo")
    assert folder == SHIPPED / "ppo"
    assert sum(file.stat().st_size for file in folder.iterdir()) < LIMIT_KB * 1024
    facts = read_bundle(folder)
    assert facts.calibrations
    for name, value in facts.calibrations.items():
        assert calibration_hash(name) == value, name


def test_it_saves_energy_and_serves_everyone(played) -> None:
    """More tokens per joule than Baseline, not by starving requests, violating or flapping."""
    baseline, agent = played
    for name in SETTINGS:
        for base, own in zip(baseline[name], agent[name], strict=True):
            assert own["tokens_per_joule"] > 1.05 * base["tokens_per_joule"], name
            assert own["output_tokens"] > 0.98 * base["output_tokens"], name
            assert own["requests_waiting"] <= base["requests_waiting"] + 5, name
            assert 60.0 * own["knob_changes"] / SECONDS < 60.0, name
        assert np.mean([own["qos_violation_rate"] for own in agent[name]]) < 0.10, name


def test_the_return_agrees_with_the_figures(played) -> None:
    """It does not live off an edge of the reward: who earns more has spent less energy."""
    baseline, agent = played
    for name in SETTINGS:
        for base, own in zip(baseline[name], agent[name], strict=True):
            assert own["reward_mean"] > base["reward_mean"], name
            assert own["energy_gpu_j"] < base["energy_gpu_j"], name


def test_it_listens_to_the_queue() -> None:
    """It is no constant: a full server gets a higher cap than an empty one."""
    env = SETTINGS["steady"].make(
        action="grid", reward="constrained", interval_s=0.5, duration_s=SECONDS
    )
    agent = _agent()
    agent.bind(env.context)
    observation, _ = env.reset(seed=SEEDS[0])
    layout = env.context.layout
    empty, full = observation.copy(), observation.copy()
    raw = {
        "running": 60.0, "waiting": 40.0, "oldest_wait_s": 3.0, "prefill_backlog_tokens": 20_000.0,
        "arrivals_per_s": 20.0, "arrival_rate_per_s": 20.0, "kv_cache_usage": 0.5,
        "throughput_tok_s": 0.8 * env.context.capacity_tok_s,
        "output_tok_s": 0.8 * env.context.capacity_tok_s,
    }  # fmt: skip
    for key, value in raw.items():
        scale, index = layout.scales[key], layout.index(key)
        linear = value / scale.unit
        full[index] = (
            np.log1p(linear) / np.log1p(scale.top / scale.unit) if scale.logarithmic else linear
        )
    assert agent.predict(full)[0][0] > agent.predict(empty)[0][0]
