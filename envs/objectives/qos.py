"""Throughput over a sliding window, and the three readings of a QoS violation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.errors import ConfigurationError


@dataclass(kw_only=True)
class QoSConfig:
    """How throughput QoS is evaluated.

    Attributes:
        window_s: Length of the sliding window over which throughput is averaged.
        tolerance: Shortfall that is forgiven, as a fraction of the target.
        warmup_s: Time after reset that QoS and latency leave out (never energy or tokens).
        backlog_s: In the backlog-aware reading work waits when requests wait for a place and
            the oldest has had no first token for this long. Without it a request that came
            in the middle of an engine step would count as work kept waiting.
    """

    window_s: float = 10.0
    tolerance: float = 0.05
    warmup_s: float = 30.0
    backlog_s: float = 0.5

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: A value is out of range.
        """
        if self.window_s <= 0:
            raise ConfigurationError(f"objective.qos.window_s: must be > 0, got {self.window_s}")
        if not 0 <= self.tolerance < 1:
            raise ConfigurationError(
                f"objective.qos.tolerance: must be in [0, 1), got {self.tolerance}"
            )
        for key in ("warmup_s", "backlog_s"):
            if getattr(self, key) < 0:
                raise ConfigurationError(
                    f"objective.qos.{key}: must be >= 0, got {getattr(self, key)}"
                )


class WindowedRate:
    """Mean rate over the last ``window_s`` seconds, for one or many servers at once.

    Until the window is full the mean goes over what has been seen.
    """

    def __init__(self, window_s: float, interval_s: float, num_envs: int = 1) -> None:
        self._length = max(1, round(window_s / interval_s))
        self._interval_s = interval_s
        self._ring = np.zeros((self._length, num_envs))
        self._sum = np.zeros(num_envs)
        self._seen = np.zeros(num_envs)
        self._next = 0

    def reset(self, mask: NDArray[np.bool_] | None = None) -> None:
        """Forgets everything, or what belongs to the servers that ``mask`` picks."""
        where = slice(None) if mask is None else mask
        self._ring[:, where] = 0.0
        self._sum[where] = 0.0
        self._seen[where] = 0.0

    def push(self, amount: Any) -> NDArray[np.float64]:
        """Adds one interval's amount and returns the rate per second, shape ``(num_envs,)``."""
        self._sum += amount - self._ring[self._next]
        self._ring[self._next] = amount
        self._next += 1
        if self._next == self._length:
            self._next = 0
            self._sum = self._ring.sum(axis=0)  # stops rounding errors from piling up
        np.minimum(self._seen + 1.0, self._length, out=self._seen)
        return self._sum / (self._seen * self._interval_s)


def shortfall(throughput: Any, target: Any) -> Any:
    """Relative shortfall of throughput below its target, 0 where there is no target."""
    return (target > 0) * np.maximum(0.0, 1.0 - throughput / np.maximum(target, 1e-9))


def violation_plain(throughput: Any, target: Any, tolerance: Any) -> Any:
    """Below the target, as arXiv:2605.21427 §4 words it (with the tolerance)."""
    return throughput < (1.0 - tolerance) * target


def work_waits(waiting: Any, oldest_wait_s: Any, backlog_s: Any) -> Any:
    """Whether requests wait for a place, and not just for the next engine step."""
    return (waiting > 0) & (oldest_wait_s >= backlog_s)


def violation_backlog(throughput: Any, target: Any, work_waits: Any, tolerance: Any) -> Any:
    """Below the target while work waits: what a live server can know."""
    return violation_plain(throughput, target, tolerance) & work_waits


def violation_reference(throughput: Any, target: Any, reference: Any, tolerance: Any) -> Any:
    """Below what the Baseline strategy delivers on the same arrivals, or below the target."""
    return violation_plain(throughput, np.minimum(target, reference), tolerance)
