"""A cluster as a PettingZoo parallel environment: every node is an agent."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from envs import EPISODE_STEPS
from envs.arguments import expect, expect_whole
from envs.cluster.cluster import Cluster, ClusterState
from envs.errors import ActionError
from envs.serving import MAX_SEED


class ParallelClusterEnv(ParallelEnv[str, NDArray[np.float32], Any]):  # type: ignore[misc]
    """Nodes as agents that act at the same time; needs the extra ``[ray]`` (PettingZoo).

    Each agent observes its own server, with the power budget that the cluster gives it, sets
    its own knobs and gets its own reward. Its ``info`` is its server's; the
    :class:`~envs.cluster.cluster.ClusterState` is added under ``cluster``.

    Args:
        cluster: The nodes under their budget.
        max_episode_steps: Steps after which the episode is truncated for all.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - PettingZoo's own protocol
        "name": "pals_cluster_v0",
        "render_modes": [],
        "is_parallelizable": True,
    }
    render_mode = None

    def __init__(self, cluster: Cluster, max_episode_steps: int = EPISODE_STEPS) -> None:
        expect("cluster", cluster, Cluster)
        expect_whole("max_episode_steps", max_episode_steps, 1)
        self.cluster = cluster
        self.max_episode_steps = max_episode_steps
        self.possible_agents = [node.name for node in cluster.nodes]
        self.agents: list[str] = []
        self._nodes = {node.name: node for node in cluster.nodes}
        self._elapsed = 0
        self._generator = np.random.default_rng()

    def observation_space(self, agent: str) -> gym.Space[Any]:
        """Space of one agent's observation."""
        return self._nodes[agent].env.observation_space

    def action_space(self, agent: str) -> gym.Space[Any]:
        """Space of one agent's action."""
        return self._nodes[agent].env.action_space

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, dict[str, Any]]]:
        """Starts an episode on every node."""
        if seed is not None:
            self._generator = np.random.default_rng(seed)
        state = self.cluster.reset(int(self._generator.integers(MAX_SEED)))
        self.agents = list(self.possible_agents)
        self._elapsed = 0
        return self._observations(), self._infos(state)

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[
        dict[str, NDArray[np.float32]],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Sets all nodes' knobs and lets one interval pass."""
        names = list(self.agents)
        missing = sorted(set(self.possible_agents) - set(actions))
        if missing:
            raise ActionError(f"action: must hold one for each agent, none for {missing[0]}")
        state = self.cluster.step([actions[name] for name in self.possible_agents])
        self._elapsed += 1
        ended = self._elapsed >= self.max_episode_steps
        rewards = {name: self._nodes[name].reward for name in names}
        if ended:
            self.agents = []
        return (
            self._observations(),
            rewards,
            dict.fromkeys(names, False),
            dict.fromkeys(names, ended),
            self._infos(state),
        )

    def close(self) -> None:
        """Releases all nodes."""
        self.cluster.close()

    def _observations(self) -> dict[str, NDArray[np.float32]]:
        return {name: node.observation for name, node in self._nodes.items()}

    def _infos(self, state: ClusterState) -> dict[str, dict[str, Any]]:
        return {name: {**node.info, "cluster": state} for name, node in self._nodes.items()}
