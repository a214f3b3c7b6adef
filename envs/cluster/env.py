"""A cluster as one flat Gymnasium environment, for a central agent (``pals/Cluster-v0``)."""

from __future__ import annotations

import numbers
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.arguments import expect
from envs.cluster.allocators import ByAction
from envs.cluster.cluster import Cluster, ClusterState
from envs.errors import ActionError, ConfigurationError, WorkloadError
from envs.finite import real_array
from envs.rendering import RENDER_FPS, Picture
from envs.serving import MAX_SEED

WEIGHT_LEVELS = 6
"""Levels of a node's weight when actions are discrete."""
CLUSTER_ENTRIES = ("next_budget", "announced_budget", "power", "infeasible")


class ClusterEnv(gym.Env[NDArray[np.float32], Any]):
    """All nodes' observations and actions side by side.

    The observation is the nodes' observations one after another, then per node whether it
    answers and its fraction of the budget, then the entries of :data:`CLUSTER_ENTRIES` as
    fractions of the cluster's highest power. The action is the nodes' actions one after another,
    followed by one weight per node with the allocator ``by_action``. The reward is the nodes' mean,
    less the overshoot of the cluster's budget. ``info`` holds each node's own ``info`` under
    ``nodes``, the :class:`~envs.cluster.cluster.ClusterState` under ``cluster``, and the mean
    ``cost``.

    Args:
        cluster: The nodes under their budget.
        overshoot_weight: Weight of the relative overshoot of the budget in the reward.
        render_mode: ``rgb_array`` for frames with the nodes side by side, or ``None``.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - Gymnasium's own protocol
        "render_modes": ["rgb_array"],
        "render_fps": RENDER_FPS,
    }

    def __init__(
        self,
        cluster: Cluster,
        overshoot_weight: float = 5.0,
        render_mode: str | None = None,
    ) -> None:
        expect("cluster", cluster, Cluster)
        expect("overshoot_weight", overshoot_weight, numbers.Real)
        self.cluster = cluster
        self.render_mode = render_mode
        self._pictures: list[Picture] = []
        if render_mode is not None:
            self._pictures = [Picture(render_mode, node.env.context) for node in cluster.nodes]
        self.interval_s = cluster.interval_s
        self._overshoot_weight = overshoot_weight
        self._begun = False
        self._by_action = isinstance(cluster.allocator, ByAction)
        spaces = [node.env.action_space for node in cluster.nodes]
        self._sizes = [_size(space) for space in spaces]
        self._discrete = [isinstance(space, gym.spaces.Discrete) for space in spaces]
        self.action_space = _joined(spaces, len(spaces) if self._by_action else 0)
        own = [node.env.observation_space for node in cluster.nodes]
        count = len(cluster.nodes)
        extra = np.full(2 * count + len(CLUSTER_ENTRIES), 2.0, dtype=np.float32)
        high = np.concatenate([*(space.high for space in own), extra])  # type: ignore[attr-defined]
        self.observation_space = gym.spaces.Box(np.zeros_like(high), high, dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode on every node; see :meth:`gymnasium.Env.reset`."""
        super().reset(seed=seed)
        if isinstance(self.cluster.allocator, ByAction):
            self.cluster.allocator.set_weights(np.ones(len(self.cluster.nodes)))
        state = self.cluster.reset(int(self.np_random.integers(MAX_SEED)))
        self._begun = True
        for picture in self._pictures:
            picture.clear()
        return self._observe(state), self._info(state)

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Sets all nodes' knobs (and weights) and lets one interval pass.

        Raises:
            ActionError: The action does not fit the action space.
            WorkloadError: The environment was never reset.
        """
        if not self._begun:
            raise WorkloadError("step: the cluster was not reset before time was to pass")
        try:
            given = real_array(action)
        except ValueError as error:
            raise ActionError(
                f"action: must be numbers of the shape {self.action_space.shape} ({error}), "
                f"got {action!r}"
            ) from error
        if given.shape != self.action_space.shape:
            raise ActionError(
                f"action: must have the shape {self.action_space.shape}, got {given.shape}"
            )
        parts = np.split(given, np.cumsum(self._sizes))
        actions = [
            part[0] if discrete else part
            for part, discrete in zip(parts[:-1], self._discrete, strict=True)
        ]
        knobs = self.cluster.decode(actions)
        if self._by_action:
            assert isinstance(self.cluster.allocator, ByAction)
            self.cluster.allocator.set_weights(self._weights(parts[-1]))
        state = self.cluster.step_to(knobs)
        for node, picture in zip(self.cluster.nodes, self._pictures, strict=False):
            if node.alive:
                info = node.info
                picture.add(info["telemetry"], info["conditions"], info["throughput_tok_s"])
        reward = float(np.mean([node.reward for node in self.cluster.nodes]))
        reward -= self._overshoot_weight * max(0.0, state.power_w / max(state.budget_w, 1.0) - 1.0)
        return self._observe(state), reward, False, False, self._info(state)

    def _weights(self, given: NDArray[Any]) -> NDArray[np.float64]:
        """Returns the nodes' weights that the end of an action holds.

        Raises:
            ActionError: One is outside the action space.
        """
        levels = isinstance(self.action_space, gym.spaces.MultiDiscrete)
        least, most = (0, WEIGHT_LEVELS - 1) if levels else (-1.0, 1.0)
        inside = (given >= least) & (given <= most)
        if not inside.all() or (levels and (given != np.rint(given)).any()):
            what = "whole numbers" if levels else "numbers"
            raise ActionError(
                f"action: the nodes' weights must be {what} of {least:g} to {most:g}, got {given}"
            )
        return np.asarray(given + 1.0, dtype=np.float64)

    def render(self) -> Any:
        """Returns a frame of all nodes side by side, or ``None`` without a ``render_mode``."""
        frames = [picture.frame() for picture in self._pictures]
        return np.hstack([frame for frame in frames if frame is not None]) if frames else None

    def close(self) -> None:
        """Releases all nodes."""
        self.cluster.close()

    def _observe(self, state: ClusterState) -> NDArray[np.float32]:
        nodes, top = self.cluster.nodes, self.cluster.highest_w
        watts = (state.next_budget_w, state.announced_budget_w, state.power_w)
        extra = np.array(
            [
                *(float(node.alive) for node in nodes),
                *(given / node.ceiling_w for given, node in zip(
                    state.allocation_w, nodes, strict=True)),
                *(value / top for value in watts),
                float(not state.feasible),
            ]
        )  # fmt: skip
        extra = np.clip(extra, 0.0, 2.0).astype(np.float32)
        return np.concatenate([*(node.observation for node in nodes), extra])

    def _info(self, state: ClusterState) -> dict[str, Any]:
        nodes = {node.name: node.info for node in self.cluster.nodes}
        costs = [info.get("cost", 0.0) for info in nodes.values()]
        return {"nodes": nodes, "cluster": state, "cost": float(np.mean(costs))}


def _size(space: gym.Space[Any]) -> int:
    return 1 if isinstance(space, gym.spaces.Discrete) else int(np.prod(space.shape or (1,)))


def _joined(spaces: list[gym.Space[Any]], weights: int) -> gym.Space[Any]:
    """Joins the nodes' action spaces, with ``weights`` further entries, into a flat one."""
    if all(isinstance(space, gym.spaces.Box) for space in spaces):
        size = sum(_size(space) for space in spaces) + weights
        return gym.spaces.Box(-1.0, 1.0, (size,), dtype=np.float32)
    sizes: list[int] = []
    for space in spaces:
        if isinstance(space, gym.spaces.MultiDiscrete):
            sizes.extend(int(n) for n in space.nvec)
        elif isinstance(space, gym.spaces.Discrete):
            sizes.append(int(space.n))
        else:
            raise ConfigurationError(
                "action: the nodes of a central environment need the same kind of action space"
            )
    return gym.spaces.MultiDiscrete([*sizes, *[WEIGHT_LEVELS] * weights])
