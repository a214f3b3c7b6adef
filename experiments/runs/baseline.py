"""The Baseline strategy on the same arrivals: what throughput QoS is measured against."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from baselines.fixed_knobs import FixedKnobs
from envs.cache import atomic_write_bytes, cache_dir
from experiments.app.environment import is_simulated, make_env
from experiments.evaluation.rollout import run_episode
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
    if file.is_file():
        tokens = _read(file)
        if tokens is not None and tokens.shape == (intervals,):
            return tokens
    env = make_env(config, reward="efficiency_only")
    controller = FixedKnobs(env.context.highest)
    controller.bind(env.context)
    episode = run_episode(env, controller, seed=config.seed, duration_s=config.duration)
    env.close()
    tokens = episode.table["output_tokens"]
    buffer = io.BytesIO()
    np.save(buffer, tokens, allow_pickle=False)
    atomic_write_bytes(file, buffer.getvalue())
    return tokens


def _read(file: Path) -> NDArray[np.float64] | None:
    """Reads a cached array; ``None`` when the file is damaged and has to be made again."""
    try:
        tokens: NDArray[np.float64] = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return tokens
