"""The Baseline strategy on the same arrivals, and what an episode is worth beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from baselines.base import Controller, Outcome
from baselines.static import Static
from envs.context import ControlContext
from envs.factory import make_env
from envs.scenario import Scenario
from envs.serving import ServingEnv
from envs.sources import computation_hash
from experiments.evaluation.metrics import RunMetrics, summarise
from experiments.evaluation.qos import add_reference
from experiments.evaluation.rollout import Episode, run_episode
from experiments.records.array_cache import cached_array
from experiments.records.hashing import digest

_NO_PART = ("objective", "reward")


def baseline(context: ControlContext, *, respect_budget: bool = False) -> Controller:
    """Returns the Baseline strategy, bound to a server.

    It holds the highest cap and batch limit of the grid (arXiv:2605.21427 §4).

    Args:
        context: What a controller of the server is told.
        respect_budget: Whether it keeps to power budgets; the paper's knows none.
    """
    controller = Static(respect_budget=respect_budget)
    controller.bind(context)
    return controller


def reference_key(scenario: Scenario, seed: int) -> str:
    """Returns the hash of everything that Baseline's output depends on.

    The objective is no part of it: Baseline knows neither target nor budget.
    """
    parts = {key: part for key, part in scenario.content().items() if key not in _NO_PART}
    return digest(parts, seed, computation_hash())


def reference_tokens(scenario: Scenario, seed: int) -> NDArray[np.float64] | None:
    """Returns the output tokens per interval of Baseline on the run's arrivals.

    Baseline knows no power budget here. In a closed loop it faces the same number of requests in
    flight.

    Args:
        scenario: What is controlled.
        seed: Seed of the episode.

    Returns:
        Tokens per interval from the cache, or from a run that is then cached; ``None`` on a
        live server, where the same arrivals cannot be served twice.
    """
    if not scenario.is_simulated:
        return None
    key = reference_key(scenario, seed)
    intervals = max(1, round(scenario.duration_s / scenario.interval_s))
    return cached_array("references", key, (intervals,), lambda: _measured(scenario, seed))


def _measured(scenario: Scenario, seed: int) -> NDArray[np.float64]:
    """Runs Baseline on the episode's arrivals; returns its output tokens per interval."""
    env = make_env(replace(scenario, reward="efficiency_only"))
    episode = run_episode(env, baseline(env.context), seed=seed, duration_s=scenario.duration_s)
    env.close()
    return episode.table["output_tokens"]


def evaluated(
    episode: Episode, reference: NDArray[np.float64] | None, env: ServingEnv
) -> RunMetrics:
    """Returns the metrics of an episode, with its QoS evaluated against Baseline's output.

    Args:
        episode: The episode; its table gets the columns of the QoS.
        reference: Baseline's output tokens per interval; ``None`` on a live server.
        env: The environment it took place in.
    """
    if reference is not None:
        add_reference(episode.table, reference, env.context.qos, env.interval_s)
    return summarise(episode, env.context)


def outcome(metrics: RunMetrics) -> Outcome:
    """Returns what a look ahead tells a controller of an episode; what does not apply is 0."""
    return Outcome(
        tokens_per_joule=metrics.tokens_per_joule or 0.0,
        qos_violation_rate=metrics.qos_violation_rate or 0.0,
        slo_violation_rate=metrics.slo_violation_rate or 0.0,
        budget_overshoot_rate=metrics.budget_overshoot_rate or 0.0,
    )
