"""How long a controller took for its decisions, and what it tells of itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.base import Policy, Reports


@dataclass(frozen=True)
class Decisions:
    """A controller's decisions in one episode, or in several that ran together.

    Attributes:
        p50_s: Median wall-clock time of one decision about one server; ``None`` without any.
        p99_s: 99th percentile.
        told: What the controller tells of itself (:class:`baselines.base.Reports`).
    """

    p50_s: float | None = None
    p99_s: float | None = None
    told: Mapping[str, float] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Returns what a run's summary has of it; ``told`` only where there is something."""
        own: dict[str, Any] = {"decision_p50_s": self.p50_s, "decision_p99_s": self.p99_s}
        return {**own, "controller_report": dict(self.told)} if self.told else own


class DecisionClock:
    """Asks a controller, and measures how long it takes.

    Args:
        policy: The controller, or another policy.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._seconds: list[float] = []
        self._state: Any = None

    def decide(self, observation: NDArray[Any], start: NDArray[np.bool_]) -> Any:
        """Returns the action for an observation, or the actions for a batch of them.

        Args:
            observation: What the controller is shown.
            start: For each observation, whether its episode has just begun.
        """
        begin_s = time.perf_counter()
        action, self._state = self._policy.predict(
            observation, self._state, start, deterministic=True
        )
        self._seconds.append((time.perf_counter() - begin_s) / len(start))
        return action

    def finish(self) -> Decisions:
        """Returns the decisions so far."""
        told = self._policy.report(self._state) if isinstance(self._policy, Reports) else {}
        if not self._seconds:
            return Decisions(told=told)
        p50_s, p99_s = np.percentile(self._seconds, [50, 99]).tolist()
        return Decisions(p50_s, p99_s, told)
