"""One node of a cluster: a server, and what happens when it fails."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from envs.arguments import expect
from envs.errors import ActionError, ConfigurationError, PalsError
from envs.knobs import Knobs
from envs.objectives.objective import power_in_scope
from envs.serving import ServingEnv


class Node:
    """A server of a cluster.

    A node whose server fails is *down*: it gets no budget, its actions are ignored, its
    telemetry is empty and its observation is all zeros. The cluster tries to restart it every
    ``retry_s``. The node's own guard restores its knobs.

    Args:
        name: Name of the node.
        env: Its server as an environment.
        retry_s: Time between two attempts to bring a failed node back, in seconds.
    """

    def __init__(self, name: str, env: ServingEnv, retry_s: float = 5.0) -> None:
        expect("env", env, ServingEnv)
        expect("retry_s", retry_s, numbers.Real)
        self.name = name
        self.env = env
        self.alive = True
        self.observation = np.zeros(env.observation_space.shape or (0,), dtype=np.float32)
        self.info: dict[str, Any] = {}
        self.reward = 0.0
        self.error = ""
        self._retry_s = retry_s
        self._down_s = 0.0
        self._restarts = 0
        self._seed = 0

    @property
    def seed(self) -> int:
        """Seed of the current episode; it changes with every attempt to restart."""
        return self._seed + self._restarts

    @property
    def floor_w(self) -> float:
        """Least power in the budget's scope: all GPUs at their lowest cap."""
        return self._in_scope(self.env.context.limits.power_cap_min_w)

    @property
    def ceiling_w(self) -> float:
        """Most power in the budget's scope: all GPUs at their highest cap."""
        return self._in_scope(self.env.context.limits.power_cap_max_w)

    def _in_scope(self, cap_w: float) -> float:
        context = self.env.context
        power = power_in_scope(cap_w * context.num_gpus, context.power_scope, context.system_power)
        return float(power)

    @property
    def power_w(self) -> float:
        """Mean power of the last interval in the budget's scope; 0 while the node is down."""
        if not self.alive or "telemetry" not in self.info:
            return 0.0
        telemetry = self.info["telemetry"]
        if telemetry.duration_s <= 0:
            return 0.0
        context = self.env.context
        gpus = telemetry.energy_gpu_j / telemetry.duration_s
        return float(power_in_scope(gpus, context.power_scope, context.system_power))

    def reset(self, seed: int) -> None:
        """Starts an episode; a node that cannot start is down from the beginning."""
        self._seed, self._restarts, self._down_s = seed, 0, 0.0
        self._try_start(seed)

    def decode(self, action: Any) -> Knobs | None:
        """Returns the knobs that an action asks for; ``None`` while the node is down.

        Raises:
            ActionError: It is outside the action space.
        """
        if not self.alive:
            return None
        try:
            return self.env.decode(action)
        except ActionError as error:
            raise ActionError(f"{error} (node {self.name})") from error

    def step(self, knobs: Knobs | None) -> None:
        """Lets one interval pass; afterwards the node may be down.

        Args:
            knobs: What :meth:`decode` gave.
        """
        if knobs is None:
            self._down_s += self.env.interval_s
            self.reward = 0.0
            if self._down_s >= self._retry_s:
                self._down_s = 0.0
                self._restarts += 1
                self._try_start(self.seed)
            return
        try:
            self.observation, self.reward, _, _, self.info = self.env.step_to(knobs)
        except (ActionError, ConfigurationError):  # the caller's mistake, and no failure
            raise
        except PalsError as error:
            self._fail(error)

    def give(self, budget_w: float) -> None:
        """Sets the node's power budget and clips its caps to it."""
        if not self.alive:
            return
        self.env.cap_ceiling_w = float(self.env.context.cap_limit_w(budget_w))
        try:
            self.observation = self.env.set_power_budget(budget_w)
        except PalsError as error:
            self._fail(error)

    def _try_start(self, seed: int) -> None:
        try:
            self.observation, self.info = self.env.reset(seed=seed)
        except PalsError as error:
            self._fail(error)
            return
        self.alive, self.error, self.reward = True, "", 0.0

    def _fail(self, error: PalsError) -> None:
        self.alive, self.error, self.reward = False, f"{type(error).__name__}: {error}", 0.0
        self.info = {}
        self.observation = np.zeros_like(self.observation)
