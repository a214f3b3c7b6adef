"""The future of an episode, for controllers that look ahead."""

from __future__ import annotations

import gymnasium as gym

from baselines.twin.future import Future
from envs.errors import ConfigurationError
from envs.serving import ServingEnv, episode_seeds
from envs.simulator.server import SimulatedServer


def future_of(env: ServingEnv, seed: int) -> Future:
    """Returns what will happen in the episode that ``env.reset(seed=seed)`` begins.

    Args:
        env: An environment of the scenario.
        seed: Seed of the episode.

    Raises:
        ConfigurationError: The server is live, so that its future is unknown.
    """
    system = env.system
    if not isinstance(system, SimulatedServer):
        raise ConfigurationError(
            "controller: this one looks ahead, which only the simulator can do; use "
            "server=simulated or another controller"
        )
    generator, _ = gym.utils.seeding.np_random(seed)
    system_seed, demands_seed = episode_seeds(generator)
    return Future(
        system.server_spec, system_seed, env.planner.plan(demands_seed), system.randomizes
    )
