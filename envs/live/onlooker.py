"""Evaluates other clients' requests from the server's metrics alone."""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import Any

import numpy as np

from envs.latency import LatencyRecord, bucket_of
from envs.live.histogram import Histogram
from envs.live.metrics import Snapshot

_LOG = logging.getLogger(__name__)
PERCENTILES = (50, 95, 99)
LATENCIES = ("ttft", "tpot", "e2e")


class Onlooker:
    """Evaluates other clients' requests from the server's metrics alone.

    Latencies are known as well as the server's histogram buckets are wide: percentiles of an
    interval are interpolated within them, those of an episode are upper bounds of buckets, and
    an SLO counts as the bucket bound next above it, so that at least as many requests missed
    it as are said to have. Requests are counted as they come: those running, waiting and
    finished together. The queue is taken to be first come, first served, which dates the
    requests that wait. The prompt backlog is the number waiting times the mean prompt length
    seen so far.

    Attributes:
        warmup_s: Intervals that end earlier are left out of :meth:`latency`.
    """

    def __init__(self, warmup_s: float = 0.0) -> None:
        self.warmup_s = warmup_s
        self._arrived = 0.0
        self._waiting = 0.0
        self._inside: float | None = None
        self._curve: deque[tuple[float, float]] = deque()
        self._record = LatencyRecord()
        self._overdue = 0
        self._missed = 0.0
        self._warned: set[str] = set()

    def fields(
        self, now: Snapshot, added: Snapshot, time_s: float, slos: tuple[float, float]
    ) -> dict[str, Any]:
        """Returns what our own clock would tell if the requests were ours.

        Args:
            now: The newest snapshot.
            added: What was added since the one before.
            time_s: When it was taken.
            slos: TTFT and TPOT SLO in seconds.
        """
        finished = added.counters.get("finished", 0.0)
        inside = now.gauges["running"] + now.gauges["waiting"]
        before = inside if self._inside is None else self._inside
        arrivals = max(0.0, inside + finished - before)
        self._inside, self._waiting = inside, now.gauges["waiting"]
        histograms = {name: added.histograms.get(name, Histogram()) for name in LATENCIES}
        self._warn(now, slos)
        missed = max(
            _above(histograms[name], slo) for name, slo in zip(("ttft", "tpot"), slos, strict=True)
        )
        lengths = now.histograms.get("prompt_length", Histogram())
        oldest_s = self._oldest_wait_s(arrivals, time_s)
        self._overdue = self._waiting_longer_than(slos[0], time_s)
        if time_s > self.warmup_s:
            self._enter(histograms, finished, missed)
        return {
            "arrivals": arrivals,
            "finished": finished,
            "prefill_backlog_tokens": self._waiting * lengths.mean,
            "oldest_wait_s": oldest_s,
            "slo_missed": missed,
            "slo_overdue": self._overdue,
            **{
                key: value
                for name, histogram in histograms.items()
                for key, value in _summary(name, histogram).items()
            },
        }

    def latency(self) -> LatencyRecord:
        """Returns the distribution since the warm-up; see the class for how well it is known."""
        # A first token that came late is known before its request is finished.
        self._record.slo_missed = min(round(self._missed), self._record.finished)
        self._record.slo_overdue = self._overdue
        return self._record

    def _enter(self, histograms: dict[str, Histogram], finished: float, missed: float) -> None:
        record = self._record
        for name, counts in (("ttft", record.ttft), ("tpot", record.tpot), ("e2e", record.e2e)):
            histogram, below, lower = histograms[name], 0.0, 0.0
            for bound, count in zip(histogram.bounds, histogram.counts, strict=True):
                counts[bucket_of(lower if math.isinf(bound) else bound)] += round(count - below)
                below, lower = count, bound
        record.finished += round(finished)
        self._missed += missed

    def _oldest_wait_s(self, arrivals: float, time_s: float) -> float:
        """Dates the oldest waiting request: as many came after it as wait behind it."""
        self._arrived += arrivals
        self._curve.append((time_s, self._arrived))
        served = self._arrived - self._waiting
        while len(self._curve) > 1 and self._curve[0][1] <= served:
            self._curve.popleft()
        return time_s - self._curve[0][0] if self._waiting > 0 else 0.0

    def _waiting_longer_than(self, limit_s: float, time_s: float) -> int:
        """Returns how many requests have waited for longer than a limit."""
        if math.isinf(limit_s) or self._waiting <= 0:
            return 0
        times = np.array([time for time, _ in self._curve])
        index = int(np.searchsorted(times, time_s - limit_s, side="left")) - 1
        served = self._arrived - self._waiting
        return round(max(0.0, self._curve[index][1] - served)) if index >= 0 else 0

    def _warn(self, now: Snapshot, slos: tuple[float, float]) -> None:
        """Says once which bound replaces an SLO that is not a bucket bound."""
        for name, slo in zip(("ttft", "tpot"), slos, strict=True):
            histogram = now.histograms.get(name, Histogram())
            if math.isinf(slo) or name in self._warned or not histogram.bounds:
                continue
            self._warned.add(name)
            bound = histogram.bound_for(slo)
            if not math.isclose(bound, slo):
                _LOG.warning(
                    "objective.%s_slo_s: %g s is no bucket bound of the server's histogram; its "
                    "users' requests are evaluated against %g s%s", name, slo, bound,
                    "" if bound > slo else ", which is stricter: it knows no longer times",
                )  # fmt: skip


def _above(histogram: Histogram, limit: float) -> float:
    return 0.0 if math.isinf(limit) else round(histogram.above(limit))


def _summary(name: str, histogram: Histogram) -> dict[str, float]:
    values = {f"{name}_p{q}_s": histogram.percentile(q) for q in PERCENTILES}
    return {f"{name}_samples": histogram.samples} | values
