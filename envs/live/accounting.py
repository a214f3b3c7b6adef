"""Keeps account of our own requests: who waits, who was served, how fast."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np

from envs.latency import LatencyRecord, bucket_of

PERCENTILES = (50, 95, 99)


class Event(NamedTuple):
    """Something that happened to one request, on the client's clock.

    Attributes:
        kind: ``arrived``, ``token``, ``finished``, ``rejected`` or ``lost``.
        request: Number of the request.
        time_s: When, in seconds since the load began.
        tokens: Prompt tokens of an arrival; output tokens that a ``token`` event brought.
    """

    kind: str
    request: int
    time_s: float
    tokens: int = 0


@dataclass
class _Open:
    arrived_s: float
    prompt_tokens: int
    first_s: float | None = None
    output_tokens: int = 0


@dataclass
class IntervalAccount:
    """What happened to our requests in one interval.

    Attributes:
        output_tokens: Output tokens received.
        prompt_tokens: Prompt tokens of requests that got their first token.
        arrivals: Requests that arrived.
        finished: Requests completed.
        rejected: Requests that the server refused for their length.
        lost: Requests that broke off.
        slo_missed: Finished requests that missed an SLO.
        ttft_s: Times to first token, of requests that got it.
        tpot_s: Times per output token, of finished requests with at least two.
        e2e_s: End-to-end times, of finished requests.
    """

    output_tokens: int = 0
    prompt_tokens: int = 0
    arrivals: int = 0
    finished: int = 0
    rejected: int = 0
    lost: int = 0
    slo_missed: int = 0
    ttft_s: list[float] = field(default_factory=list)
    tpot_s: list[float] = field(default_factory=list)
    e2e_s: list[float] = field(default_factory=list)

    def plus(self, later: IntervalAccount) -> IntervalAccount:
        """Returns this account and a later one as one."""
        return IntervalAccount(
            **{
                item.name: getattr(self, item.name) + getattr(later, item.name)
                for item in fields(self)
            }
        )


class Accounts:
    """Our requests of one episode.

    Attributes:
        warmup_s: Requests that arrive earlier are left out of :meth:`latency`.
        ttft_slo_s: TTFT SLO that requests are evaluated by.
        tpot_slo_s: TPOT SLO that requests are evaluated by.
    """

    def __init__(self) -> None:
        self.warmup_s = 0.0
        self.ttft_slo_s = math.inf
        self.tpot_slo_s = math.inf
        self.clear()

    def clear(self) -> None:
        """Forgets all requests."""
        self._open: dict[int, _Open] = {}
        self._record = LatencyRecord()

    def take(self, events: Iterable[Event]) -> IntervalAccount:
        """Enters the events of an interval and returns its account."""
        account = IntervalAccount()
        for event in events:
            getattr(self, f"_{event.kind}")(event, account)
        return account

    def _arrived(self, event: Event, account: IntervalAccount) -> None:
        account.arrivals += 1
        self._open[event.request] = _Open(event.time_s, event.tokens)

    def _token(self, event: Event, account: IntervalAccount) -> None:
        request = self._open.get(event.request)
        account.output_tokens += event.tokens
        if request is None:
            return
        request.output_tokens += event.tokens
        if request.first_s is None:
            request.first_s = event.time_s
            account.prompt_tokens += request.prompt_tokens
            ttft = event.time_s - request.arrived_s
            account.ttft_s.append(ttft)
            if request.arrived_s >= self.warmup_s:
                self._record.ttft[bucket_of(ttft)] += 1

    def _finished(self, event: Event, account: IntervalAccount) -> None:
        request = self._open.pop(event.request, None)
        if request is None or request.first_s is None:
            return
        account.finished += 1
        e2e = event.time_s - request.arrived_s
        account.e2e_s.append(e2e)
        tpot = 0.0
        if request.output_tokens > 1:
            tpot = (event.time_s - request.first_s) / (request.output_tokens - 1)
            account.tpot_s.append(tpot)
        ttft = request.first_s - request.arrived_s
        missed = ttft > self.ttft_slo_s or tpot > self.tpot_slo_s
        account.slo_missed += missed
        if request.arrived_s >= self.warmup_s:
            self._record.finished += 1
            self._record.slo_missed += missed
            self._record.e2e[bucket_of(e2e)] += 1
            if request.output_tokens > 1:
                self._record.tpot[bucket_of(tpot)] += 1

    def _rejected(self, event: Event, account: IntervalAccount) -> None:
        self._open.pop(event.request, None)
        account.rejected += 1

    def _lost(self, event: Event, account: IntervalAccount) -> None:
        if self._open.pop(event.request, None) is not None:
            account.lost += 1

    def ages_s(self, now_s: float) -> list[float]:
        """Returns the ages of the requests that have no token yet, the oldest first."""
        ages = [now_s - r.arrived_s for r in self._open.values() if r.first_s is None]
        return sorted(ages, reverse=True)

    @property
    def prompt_backlog(self) -> int:
        """Prompt tokens of requests that have no token yet."""
        return sum(r.prompt_tokens for r in self._open.values() if r.first_s is None)

    @property
    def in_flight(self) -> int:
        """Requests that arrived and did not end."""
        return len(self._open)

    def overdue(self, now_s: float, since_s: float = -math.inf) -> int:
        """Returns the unfinished requests, arrived since a time, that are past an SLO."""
        return sum(
            self._is_overdue(request, now_s)
            for request in self._open.values()
            if request.arrived_s >= since_s
        )

    def _is_overdue(self, request: _Open, now_s: float) -> bool:
        if request.first_s is None:
            return now_s - request.arrived_s > self.ttft_slo_s
        if request.first_s - request.arrived_s > self.ttft_slo_s:
            return True
        later = request.output_tokens - 1
        return later > 0 and now_s - request.first_s > self.tpot_slo_s * later

    def latency(self, now_s: float) -> LatencyRecord:
        """Returns the distribution since the warm-up, waiting requests with their age."""
        record = self._record
        ttft = record.ttft.copy()
        for request in self._open.values():
            if request.first_s is None and request.arrived_s >= self.warmup_s:
                ttft[bucket_of(now_s - request.arrived_s)] += 1
        return LatencyRecord(
            ttft=ttft,
            tpot=record.tpot.copy(),
            e2e=record.e2e.copy(),
            finished=record.finished,
            slo_missed=record.slo_missed,
            slo_overdue=self.overdue(now_s, self.warmup_s),
        )


def summary(name: str, samples: list[float]) -> dict[str, Any]:
    """Returns the telemetry fields of one latency: sample count and percentiles.

    Percentiles are samples that occurred (nearest rank), and 0 when there are none.
    """
    values = [0.0] * len(PERCENTILES)
    if samples:
        values = np.percentile(samples, PERCENTILES, method="inverted_cdf").tolist()
    named = {f"{name}_p{q}_s": value for q, value in zip(PERCENTILES, values, strict=True)}
    return {f"{name}_samples": float(len(samples))} | named
