"""How throughput QoS is evaluated, and the definitions of a QoS violation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from envs.fields import Checked
from envs.quantities import FractionBelowOne, Seconds, SecondsOrNone

_ROUNDING_S = 1e-6


@dataclass(kw_only=True)
class QoSConfig(Checked):
    """How throughput QoS is evaluated.

    Attributes:
        window_s: Length of the sliding window over which throughput is averaged.
        tolerance: Shortfall that is forgiven, as a fraction of the target.
        warmup_s: Time after reset that QoS and latency leave out (never energy or tokens): until
            there is a full window. Were it longer, who plans or learns could save energy in it by
            serving late.
        backlog_s: In the backlog-aware definition, work waits when requests wait for a place and
            the oldest has had no first token for this long. Without this time a request that
            arrives in the middle of an engine step would count as waiting work.
    """

    config_key: ClassVar[str] = "objective.qos"

    window_s: Seconds = 10.0
    tolerance: FractionBelowOne = 0.05
    warmup_s: SecondsOrNone = 10.0
    backlog_s: SecondsOrNone = 0.5

    def evaluates(self, begin_s: Any) -> Any:
        """Whether QoS looks at intervals that begin at these times: those after the warm-up."""
        return begin_s > self.warmup_s - _ROUNDING_S

    def first_evaluated(self, interval_s: float) -> int:
        """Returns the number of the first interval that QoS looks at; the first of all is 0."""
        return max(0, math.ceil((self.warmup_s - _ROUNDING_S) / interval_s))


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
