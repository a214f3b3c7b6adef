"""Datasets for offline learning, as Minari keeps them."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from envs.errors import ConfigurationError
from experiments.app.composition import saved_run
from experiments.evaluation.decisions import DecisionClock
from experiments.runs.preparation import prepared_controller
from experiments.runs.recorder import CONFIG_FILE

_NAME = re.compile(r"([\w-]+/)*[\w-]+-v\d{1,6}", re.ASCII)
"""Nothing that leaves the folder of datasets."""
_MOST_EPISODES = 100_000


def export(directory: Path, dataset_id: str, episodes: int = 1) -> Any:
    """Runs the configuration of a finished run again, and keeps observations, actions and rewards.

    An interval table has the units that people read; a dataset has the vectors that agents see. On
    the simulator both come of one episode, since the same configuration and seed give it again.

    Args:
        directory: Folder of a finished run on one simulated server.
        dataset_id: Name of the dataset, ``NAMESPACE/NAME-vN``.
        episodes: How many; the first has the run's seed, and seeds count up.

    Returns:
        The dataset, a ``minari.MinariDataset``.

    Raises:
        ConfigurationError: There is no such run, it was live or a cluster's, or there is a dataset
            of that name.
    """
    import minari
    from minari.data_collector import EpisodeBuffer

    file = directory / CONFIG_FILE
    if not file.is_file():
        raise ConfigurationError(f"{file}: no such file; name the folder of a finished run")
    config = saved_run(file)
    scenario, options = config.scenario, config.options(directory.name)
    if not scenario.is_simulated or options.cluster is not None:
        raise ConfigurationError(
            f"{directory}: only runs on one simulated server can be run again for a dataset"
        )
    if not 1 <= episodes <= _MOST_EPISODES:
        raise ConfigurationError(f"episodes: must be 1 to {_MOST_EPISODES:,}, got {episodes}")
    if not _NAME.fullmatch(dataset_id):
        raise ConfigurationError(
            f"dataset: must be NAMESPACE/NAME-vN, such as pals/steady-v0, got {dataset_id!r}"
        )
    if dataset_id in minari.list_local_datasets():
        raise ConfigurationError(f"dataset: there is one named {dataset_id!r}; delete it first")
    steps = max(1, round(scenario.duration_s / scenario.interval_s))
    made = gym.make("pals/Simulated-v0", max_episode_steps=steps, **_parts(scenario))
    server: Any = made.unwrapped
    buffers = []
    for index in range(episodes):
        seed = options.seed + index
        controller, _ = prepared_controller(
            server, scenario, replace(options, seed=seed), lambda *_: None
        )
        clock = DecisionClock(controller)
        observation, _ = made.reset(seed=seed)
        buffer = EpisodeBuffer(id=index, seed=seed, observations=[observation], actions=[])
        start, ended = np.array([True]), False
        while not ended:
            action = np.asarray(clock.decide(observation, start))
            observation, reward, terminated, truncated, _ = made.step(action)
            start, ended = np.array([False]), terminated or truncated
            buffer.observations.append(observation)
            buffer.actions.append(action)
            buffer.rewards.append(float(reward))
            buffer.terminations.append(terminated)
            buffer.truncations.append(truncated)
        buffers.append(buffer)
    with warnings.catch_warnings():
        # Who made it and where its code lies is for the publisher to say.
        warnings.filterwarnings("ignore", message=".* is set to None", category=UserWarning)
        dataset = minari.create_dataset_from_buffers(
            dataset_id,
            buffer=buffers,
            env=made,
            eval_env=made,
            algorithm_name=type(controller).__name__,
            description=f"{type(controller).__name__} on {scenario.model}, pals-gym",
        )
    made.close()
    return dataset


def _parts(scenario: Any) -> dict[str, Any]:
    """Returns a scenario as keyword arguments of its environment, plain so that they are kept."""
    return {name: value for name, value in scenario.content().items() if value is not None}
