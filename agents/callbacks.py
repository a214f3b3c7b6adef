"""Callbacks of a training: progress, checkpoints and evaluation at a fixed number of steps."""

from __future__ import annotations

from collections.abc import Callable

from stable_baselines3.common.callbacks import BaseCallback


class Every(BaseCallback):
    """Calls a function after each ``steps`` steps, between two updates of the policy.

    Args:
        steps: Steps (of all servers together) between two calls.
        call: The function; it gets the number of steps done.
        at_start: Whether it is also called before the first step.
    """

    def __init__(self, steps: int, call: Callable[[int], None], *, at_start: bool = False) -> None:
        super().__init__()
        self._steps = steps
        self._call = call
        self._at_start = at_start
        self._next = 0

    def _on_training_start(self) -> None:
        done = self.num_timesteps
        self._next = done if self._at_start else (done // self._steps + 1) * self._steps

    def _on_rollout_start(self) -> None:
        done = self.model.num_timesteps
        if done >= self._next:
            self._next = (done // self._steps + 1) * self._steps
            self._call(done)

    def _on_step(self) -> bool:
        return True
