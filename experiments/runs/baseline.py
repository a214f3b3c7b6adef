"""The Baseline strategy on the same arrivals: what throughput QoS is measured against."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from baselines.fixed_knobs import FixedKnobs
from envs.cache import cache_dir
from envs.factory import make_env
from envs.scenario import Scenario
from experiments.evaluation.rollout import run_episode
from experiments.records.array_cache import cached_array
from experiments.records.hashing import digest, simulator_digest

_NO_PART = ("objective", "reward")


def reference_key(scenario: Scenario, seed: int) -> str:
    """Returns the hash of everything that Baseline's output depends on.

    The objective is no part of it: Baseline knows neither target nor budget.
    """
    parts = {key: part for key, part in scenario.content().items() if key not in _NO_PART}
    return digest(parts, seed, simulator_digest())


def reference_tokens(scenario: Scenario, seed: int) -> NDArray[np.float64] | None:
    """Returns the output tokens per interval of Baseline on the run's arrivals.

    Baseline holds the highest cap and batch limit of the grid without any power budget
    (arXiv:2605.21427 §4). In a closed loop it faces the same number of requests in flight.

    Args:
        scenario: What is controlled.
        seed: Seed of the episode.

    Returns:
        Tokens per interval from the cache, or from a run that is then cached; ``None`` on a
        live server, where the same arrivals cannot be served twice.
    """
    if not scenario.is_simulated:
        return None
    file = cache_dir() / "references" / f"{reference_key(scenario, seed)}.npy"
    intervals = max(1, round(scenario.duration_s / scenario.interval_s))
    return cached_array(file, (intervals,), lambda: _measured(scenario, seed))


def _measured(scenario: Scenario, seed: int) -> NDArray[np.float64]:
    """Runs Baseline on the episode's arrivals; returns its output tokens per interval."""
    env = make_env(replace(scenario, reward="efficiency_only"))
    controller = FixedKnobs(env.context.highest)
    controller.bind(env.context)
    episode = run_episode(env, controller, seed=seed, duration_s=scenario.duration_s)
    env.close()
    return episode.table["output_tokens"]
