"""Latencies of requests: samples of the interval, counts over the episode, SLOs."""

from __future__ import annotations

import math

from envs.compiled.jit import inlined, kernel
from envs.compiled.records import Floats, Ints
from envs.latency import bucket_of
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.batch_numbers import generated, slot_at
from envs.simulator.kernel.layout import Engine, Server
from envs.simulator.kernel.views import (
    arrivals_of,
    engine_at,
    preempted_of,
    prefilling_of,
    requests_of,
    samples_of,
    totals_of,
)

_bucket = kernel(bucket_of)


@inlined
def keep_sample(server: Server, kind: int, value: float) -> None:
    """Notes a latency of the interval."""
    samples_of(server)[kind, server.num_samples[kind] % at.SAMPLES] = value
    server.num_samples[kind] += 1


@inlined
def _count(server: Server, kind: int, value: float) -> None:
    """Notes a latency of the episode, if it is recorded."""
    if server.totals_offset != 0:
        totals_of(server)[kind, _bucket(value)] += 1


@kernel
def record_first_token(server: Server, engine: Engine, slot: int) -> None:
    """Notes that a request has its first token."""
    requests = requests_of(engine)
    now, arrived_s = server.now_s, requests[slot].arrived_s
    requests[slot].first_token_s = now
    keep_sample(server, at.TTFT, now - arrived_s)
    if arrived_s >= server.warmup_s:
        _count(server, at.TTFT, now - arrived_s)


@kernel
def record_finished(server: Server, engine: Engine, slot: int) -> None:
    """Notes that a request has its last token."""
    requests = requests_of(engine)
    now, arrived_s = server.now_s, requests[slot].arrived_s
    first_s = requests[slot].first_token_s
    output = requests[slot].output_tokens
    server.finished += 1
    keep_sample(server, at.E2E, now - arrived_s)
    missed = first_s - arrived_s > server.ttft_slo_s
    tpot = -1.0
    if output > 1:
        tpot = (now - first_s) / (output - 1)
        keep_sample(server, at.TPOT, tpot)
        missed = missed or tpot > server.tpot_slo_s
    server.slo_missed += missed
    if arrived_s >= server.warmup_s:
        server.total_finished += 1
        server.total_slo_missed += missed
        _count(server, at.E2E, now - arrived_s)
        if tpot >= 0.0:
            _count(server, at.TPOT, tpot)


@kernel
def sort(values: Floats, count: int) -> None:
    """Sorts the first ``count`` values in place (Shell's method; a handful is the rule)."""
    gap = 1
    while gap < count // 9:
        gap = 3 * gap + 1
    while gap > 0:
        for end in range(gap, count):
            value = values[end]
            place = end
            while place >= gap and values[place - gap] > value:
                values[place] = values[place - gap]
                place -= gap
            values[place] = value
        gap //= 3


@inlined
def nearest_rank(q: float, count: int) -> int:
    """Returns the rank, from 1, of the ``q``-th quantile among ``count`` values."""
    return max(1, math.ceil(q * count))


@kernel
def ttft_quantile(server: Server, values: Floats, count: int, q: float) -> float:
    """Returns a quantile of sorted TTFTs and of the ages of queued requests together."""
    arrivals, tail = arrivals_of(server), server.queue_tail
    now = server.now_s
    waiting = tail - server.queue_head
    if count + waiting == 0:
        return 0.0
    rank = nearest_rank(q, count + waiting)
    # The rank-th smallest takes `low` values and `rank - low` of the youngest in the queue.
    low, high = max(0, rank - waiting), min(rank, count)
    # Where many wait for long, it takes as few values as it can: one look tells.
    if low < high and values[low] >= now - arrivals[tail - (rank - low)].arrived_s:
        high = low
    while low < high:
        middle = (low + high) // 2
        if values[middle] < now - arrivals[tail - (rank - middle)].arrived_s:
            low = middle + 1
        else:
            high = middle
    quantile = values[low - 1] if low > 0 else 0.0
    if rank - low > 0:
        quantile = max(quantile, now - arrivals[tail - (rank - low)].arrived_s)
    return float(quantile)


@kernel
def _queued_before(server: Server, moment: float) -> int:
    """Counts queued requests that arrived before ``moment``."""
    arrivals = arrivals_of(server)
    low, high = server.queue_head, server.queue_tail
    while low < high:
        middle = (low + high) // 2
        if arrivals[middle].arrived_s < moment:
            low = middle + 1
        else:
            high = middle
    return int(low - server.queue_head)


@inlined
def admitted(engine: Engine, index: int) -> int:
    """Returns the slot of the ``index``-th request of those that decode, prefill or wait."""
    if index < engine.decoding:
        return slot_at(engine, index)
    index -= engine.decoding
    if index < engine.prefilling:
        return int(prefilling_of(engine)[index])
    return int(preempted_of(engine)[index - engine.prefilling])


@inlined
def num_admitted(engine: Engine) -> int:
    """Returns the number of requests that :func:`admitted` walks through."""
    return engine.decoding + engine.prefilling + engine.preempted


@kernel
def overdue(server: Server, since: float) -> int:
    """Counts unfinished requests, arrived since a moment, that are already past an SLO."""
    ttft_slo, tpot_slo = server.ttft_slo_s, server.tpot_slo_s
    if ttft_slo == math.inf and tpot_slo == math.inf:
        return 0
    before = _queued_before(server, server.now_s - ttft_slo)
    late = max(0, before - _queued_before(server, since))
    for index in range(server.replicas):
        late += _overdue_of(server, engine_at(server, index), since)
    return late


@kernel
def _overdue_of(server: Server, engine: Engine, since: float) -> int:
    """Counts the admitted requests among them."""
    now = server.now_s
    ttft_slo, tpot_slo = server.ttft_slo_s, server.tpot_slo_s
    requests = requests_of(engine)
    late = 0
    for index in range(num_admitted(engine)):
        slot = admitted(engine, index)
        arrived_s, first_s = requests[slot].arrived_s, requests[slot].first_token_s
        if arrived_s < since:
            continue
        if first_s < 0.0:
            late += now - arrived_s > ttft_slo
            continue
        tokens = requests[slot].generated_tokens
        if index < engine.decoding:
            tokens = generated(engine, slot)
        # Its mean so far, were the next token to come at this moment.
        late += first_s - arrived_s > ttft_slo or now - first_s > tpot_slo * tokens
    return late


@kernel
def count_unfinished(server: Server, ttft: Ints) -> int:
    """Adds requests without a first token to the counts ``ttft`` with their age.

    Returns:
        Unfinished requests, arrived after the warm-up, that are already past an SLO.
    """
    arrivals = arrivals_of(server)
    now, warmup = server.now_s, server.warmup_s
    for index in range(server.queue_head + _queued_before(server, warmup), server.queue_tail):
        ttft[_bucket(now - arrivals[index].arrived_s)] += 1
    for replica in range(server.replicas):
        engine = engine_at(server, replica)
        requests = requests_of(engine)
        for index in range(num_admitted(engine)):
            slot = admitted(engine, index)
            arrived_s = requests[slot].arrived_s
            if requests[slot].first_token_s < 0.0 and arrived_s >= warmup:
                ttft[_bucket(now - arrived_s)] += 1
    return overdue(server, warmup)
