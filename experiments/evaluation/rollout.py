"""The one loop that runs any controller on any environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np

from baselines.base import Controller
from envs.latency import LatencyRecord
from experiments.evaluation.decisions import DecisionClock, Decisions
from experiments.records.interval_table import IntervalTable, Row, interval_row

OnInterval = Callable[[int, Row], None]


@dataclass(frozen=True)
class Episode:
    """What happened in one episode.

    Attributes:
        table: One row an interval.
        latency: Latencies of the requests that arrived after the warm-up.
        power_source: Whether power was measured or modelled.
        decisions: How long the controller took, and what it tells.
    """

    table: IntervalTable
    latency: LatencyRecord
    power_source: str
    decisions: Decisions = field(default_factory=Decisions)


def run_episode(
    env: gym.Env[Any, Any],
    controller: Controller,
    *,
    seed: int,
    duration_s: float,
    on_interval: OnInterval | None = None,
    table: IntervalTable | None = None,
) -> Episode:
    """Lets a controller run a server for an episode.

    Args:
        env: The environment, a :class:`~envs.serving.ServingEnv` or a wrapper around one.
        controller: A controller that is bound to the environment's context, and prepared.
        seed: Seed of the episode.
        duration_s: Length of the episode in seconds; it ends earlier when the environment
            ends it.
        on_interval: Called after every interval with its number and its row.
        table: Where the rows go, for a caller that wants those of an episode that fails.

    Raises:
        ServerError: A live server failed.
    """
    server_spec: Any = env.unwrapped
    table = IntervalTable() if table is None else table
    observation, info = env.reset(seed=seed)
    clock = DecisionClock(controller)
    start = np.array([True])
    for interval in range(max(1, round(duration_s / server_spec.interval_s))):
        action = clock.decide(observation, start)
        observation, reward, terminated, truncated, info = env.step(action)
        start = np.array([False])
        row = interval_row(float(reward), info)
        for name, value in server_spec.system.extras.items():
            row[name] = float(value)
        table.append(row)
        if on_interval is not None:
            on_interval(interval, row)
        if terminated or truncated:
            break
    source = info["telemetry"].power_source
    return Episode(table, server_spec.system.latency(), source, clock.finish())
