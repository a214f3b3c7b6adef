"""The Baseline strategy on the same arrivals: what throughput QoS is measured against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from baselines.fixed_knobs import FixedKnobs
from envs.cache import cache_dir
from experiments.app.environment import is_simulated, make_env
from experiments.evaluation.rollout import run_episode
from experiments.records.array_cache import cached_array
from experiments.records.hashing import digest, simulator_digest, without

_NO_PART = (
    "_target_", "agent", "allow_packages", "controller", "controllers", "debug", "executor",
    "experiment", "objective", "profile", "reward", "seeds", "tracker",
)  # fmt: skip


def reference_key(config: DictConfig) -> str:
    """Returns the hash of everything that Baseline's output depends on.

    The objective is no part of it: Baseline knows neither target nor budget.
    """
    return digest(without(config, *_NO_PART), simulator_digest())


def reference_tokens(config: DictConfig) -> NDArray[np.float64] | None:
    """Returns the output tokens per interval of Baseline on the run's arrivals.

    Baseline holds the highest cap and batch limit of the grid without any power budget
    (arXiv:2605.21427 §4). In a closed loop it faces the same number of requests in flight.

    Args:
        config: A composed configuration of a run, with its seed.

    Returns:
        Tokens per interval from the cache, or from a run that is then cached; ``None`` on a
        live server, where the same arrivals cannot be served twice.
    """
    if not is_simulated(config):
        return None
    file = cache_dir() / "references" / f"{reference_key(config)}.npy"
    intervals = max(1, round(config.duration / config.interval))
    return cached_array(file, (intervals,), lambda: _measured(config))


def _measured(config: DictConfig) -> NDArray[np.float64]:
    """Runs Baseline on the run's arrivals; returns its output tokens per interval."""
    env = make_env(config, reward="efficiency_only")
    controller = FixedKnobs(env.context.highest)
    controller.bind(env.context)
    episode = run_episode(env, controller, seed=config.seed, duration_s=config.duration)
    env.close()
    return episode.table["output_tokens"]
