"""Makes one interval's telemetry of what the server, the client and the device tell."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from envs.live.accounting import Accounts, IntervalAccount, summary
from envs.live.metrics import Histogram, Snapshot
from envs.live.sampler import IntervalPower

PERCENTILES = (50, 95, 99)


def server_fields(now: Snapshot, added: Snapshot) -> dict[str, Any]:
    """Returns the fields that the server itself tells."""
    return {
        "prompt_tokens": added.counters.get("prompt_tokens", 0.0),
        "output_tokens": added.counters["output_tokens"],
        "preemptions": added.counters.get("preemptions", 0.0),
        "running": now.gauges["running"],
        "waiting": now.gauges["waiting"],
        "kv_cache_usage": now.gauges.get("kv_cache_usage", 0.0),
    }


def client_fields(account: IntervalAccount, accounts: Accounts, now_s: float) -> dict[str, Any]:
    """Returns the fields that our own requests tell, by the client's clock."""
    ages = accounts.ages_s(now_s)
    return {
        "arrivals": account.arrivals,
        "finished": account.finished,
        "rejected": account.rejected,
        "prefill_backlog_tokens": accounts.prompt_backlog,
        "oldest_wait_s": ages[0] if ages else 0.0,
        "slo_missed": account.slo_missed,
        "slo_overdue": accounts.overdue(now_s),
        **summary("ttft", account.ttft_s + ages),
        **summary("tpot", account.tpot_s),
        **summary("e2e", account.e2e_s),
    }


def power_fields(
    power: IntervalPower, duration_s: float, system_power: tuple[float, float]
) -> dict[str, Any]:
    """Returns the fields that the power device tells."""
    alpha, beta_w = system_power
    return {
        "power_w": sum(power.power_w),
        "gpu_power_w": power.power_w,
        "energy_gpu_j": power.energy_j,
        "energy_system_j": alpha * power.energy_j + beta_w * duration_s,
        "sm_clock_mhz": power.sm_clock_mhz,
        "cap_binding": power.cap_binding,
        "power_cap_w": power.cap_w,
    }


class Onlooker:
    """Evaluates somebody else's requests from the server's metrics alone.

    Percentiles are interpolated within the server's histogram buckets. Requests are counted
    as they come: those running, waiting and finished together. The queue is taken to be first
    come, first served, which dates the oldest request that waits. The prompt backlog is the
    number waiting times the mean prompt length seen so far.
    """

    def __init__(self) -> None:
        self._arrived = 0.0
        self._inside: float | None = None
        self._curve: deque[tuple[float, float]] = deque()

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
        self._inside = inside
        ttft = added.histograms.get("ttft", Histogram())
        tpot = added.histograms.get("tpot", Histogram())
        e2e = added.histograms.get("e2e", Histogram())
        lengths = now.histograms.get("prompt_length", Histogram())
        return {
            "arrivals": arrivals,
            "finished": finished,
            "prefill_backlog_tokens": now.gauges["waiting"] * lengths.mean,
            "oldest_wait_s": self._oldest_wait_s(arrivals, now.gauges["waiting"], time_s),
            "slo_missed": max(_above(ttft, slos[0]), _above(tpot, slos[1])),
            **_summary("ttft", ttft),
            **_summary("tpot", tpot),
            **_summary("e2e", e2e),
        }

    def _oldest_wait_s(self, arrivals: float, waiting: float, time_s: float) -> float:
        """Dates the oldest waiting request: as many came after it as wait behind it."""
        self._arrived += arrivals
        self._curve.append((time_s, self._arrived))
        served = self._arrived - waiting
        while len(self._curve) > 1 and self._curve[0][1] <= served:
            self._curve.popleft()
        return time_s - self._curve[0][0] if waiting > 0 else 0.0


def _above(histogram: Histogram, limit: float) -> float:
    return 0.0 if math.isinf(limit) else round(histogram.above(limit))


def _summary(name: str, histogram: Histogram) -> dict[str, float]:
    values = {f"{name}_p{q}_s": histogram.percentile(q) for q in PERCENTILES}
    return {f"{name}_samples": histogram.samples} | values
