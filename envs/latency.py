"""Latency distributions in bounded memory: counts over logarithmic buckets."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LATENCY_MIN_S = 1e-4
LATENCY_RATIO = 1.02
LATENCY_BUCKETS = 1024
"""1,024 buckets of 2 % width reach from 0.1 ms to 6.4e4 s; a percentile is within 1 %."""


def _zeros() -> NDArray[np.int64]:
    return np.zeros(LATENCY_BUCKETS, dtype=np.int64)


def bucket_of(seconds: float) -> int:
    """Returns the index of the bucket that a latency in seconds falls into."""
    if seconds <= LATENCY_MIN_S:
        return 0
    index = 1 + int(np.log(seconds / LATENCY_MIN_S) / np.log(LATENCY_RATIO))
    return min(index, LATENCY_BUCKETS - 1)


def percentile(counts: NDArray[np.int64], q: float) -> float | None:
    """Returns the ``q``-th percentile in seconds, or ``None`` when nothing was counted.

    Args:
        counts: Requests per bucket, shape ``(LATENCY_BUCKETS,)``.
        q: Percentile, 0 to 100.
    """
    total = int(counts.sum())
    if total == 0:
        return None
    rank = max(1, int(np.ceil(q / 100.0 * total)))
    index = int(np.searchsorted(np.cumsum(counts), rank))
    if index == 0:
        return LATENCY_MIN_S
    return float(LATENCY_MIN_S * LATENCY_RATIO ** (index - 0.5))


@dataclass
class LatencyRecord:
    """Latencies of all requests of an episode that arrived after its warm-up.

    Attributes:
        ttft: Requests per TTFT bucket, shape ``(LATENCY_BUCKETS,)``; requests still
            without a first token count with their age.
        tpot: The same for the mean time per output token of finished requests.
        e2e: The same for the time from arrival to the last token of finished requests.
        finished: Requests finished.
        slo_missed: Finished requests that missed their TTFT or TPOT SLO.
        slo_overdue: Unfinished requests that are already past an SLO.
    """

    ttft: NDArray[np.int64] = field(default_factory=_zeros)
    tpot: NDArray[np.int64] = field(default_factory=_zeros)
    e2e: NDArray[np.int64] = field(default_factory=_zeros)
    finished: int = 0
    slo_missed: int = 0
    slo_overdue: int = 0

    @property
    def slo_violation_rate(self) -> float | None:
        """Fraction of requests that missed an SLO, including unfinished ones already past it."""
        evaluated = self.finished + self.slo_overdue
        return (self.slo_missed + self.slo_overdue) / evaluated if evaluated else None
