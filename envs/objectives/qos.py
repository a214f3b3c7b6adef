"""How throughput QoS is evaluated, and the definitions of a QoS violation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.errors import ConfigurationError


@dataclass(kw_only=True)
class QoSConfig:
    """How throughput QoS is evaluated.

    Attributes:
        window_s: Length of the sliding window over which throughput is averaged.
        tolerance: Shortfall that is forgiven, as a fraction of the target.
        warmup_s: Time after reset that QoS and latency leave out (never energy or tokens).
        backlog_s: In the backlog-aware definition, work waits when requests wait for a place and
            the oldest has had no first token for this long. Without this time a request that
            arrives in the middle of an engine step would count as waiting work.
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


def shortfall(throughput: Any, target: Any) -> Any:
    """Relative shortfall of throughput below its target, 0 where there is no target."""
    return (target > 0) * np.maximum(0.0, 1.0 - throughput / np.maximum(target, 1e-9))


def violation_plain(throughput: Any, target: Any, tolerance: Any) -> Any:
    """Whether throughput is below the target, as in arXiv:2605.21427 §4 (with the tolerance)."""
    return throughput < (1.0 - tolerance) * target


def work_waits(waiting: Any, oldest_wait_s: Any, backlog_s: Any) -> Any:
    """Whether requests wait for a place, and not just for the next engine step."""
    return (waiting > 0) & (oldest_wait_s >= backlog_s)


def violation_reference(throughput: Any, target: Any, reference: Any, tolerance: Any) -> Any:
    """Whether throughput is below both the target and Baseline's on the same arrivals."""
    return violation_plain(throughput, np.minimum(target, reference), tolerance)
