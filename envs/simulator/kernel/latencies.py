"""Latencies of requests: samples of the interval, counts over the episode, SLOs."""

from __future__ import annotations

import math

from envs.compiled.jit import inlined, kernel
from envs.compiled.pointers import Floats, Ints
from envs.latency import bucket_of
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.batch import generated
from envs.simulator.kernel.views import (
    counts_of,
    finishing_of,
    list_at,
    numbers_of,
    samples_of,
    slots_of,
    stamps_of,
    times_of,
    totals_of,
)

_bucket = kernel(bucket_of)


@inlined
def keep_sample(server: int, kind: int, value: float) -> None:
    """Notes a latency of the interval."""
    counts = counts_of(server)
    samples_of(counts)[kind, counts[at.TTFT_SAMPLES + kind] % at.SAMPLES] = value
    counts[at.TTFT_SAMPLES + kind] += 1


@inlined
def _count(server: int, kind: int, value: float) -> None:
    """Notes a latency of the episode, if it is recorded."""
    counts = counts_of(server)
    if counts[at.TOTALS_AT] != 0:
        totals_of(counts)[kind, _bucket(value)] += 1


@kernel
def record_first_token(server: int, slot: int) -> None:
    """Notes that a request has its first token."""
    numbers = numbers_of(server)
    stamps = stamps_of(counts_of(server))
    now, arrived_s = numbers[at.NOW], stamps[slot, at.ARRIVED_S]
    stamps[slot, at.FIRST_TOKEN_S] = now
    keep_sample(server, at.TTFT, now - arrived_s)
    if arrived_s >= numbers[at.WARMUP_S]:
        _count(server, at.TTFT, now - arrived_s)


@kernel
def record_finished(server: int, slot: int) -> None:
    """Notes that a request has its last token."""
    numbers, counts = numbers_of(server), counts_of(server)
    stamps = stamps_of(counts)
    now, arrived_s = numbers[at.NOW], stamps[slot, at.ARRIVED_S]
    first_s = stamps[slot, at.FIRST_TOKEN_S]
    output = slots_of(counts)[slot, at.OUTPUT]
    counts[at.FINISHED] += 1
    keep_sample(server, at.E2E, now - arrived_s)
    missed = first_s - arrived_s > numbers[at.TTFT_SLO_S]
    tpot = -1.0
    if output > 1:
        tpot = (now - first_s) / (output - 1)
        keep_sample(server, at.TPOT, tpot)
        missed = missed or tpot > numbers[at.TPOT_SLO_S]
    counts[at.SLO_MISSED] += missed
    if arrived_s >= numbers[at.WARMUP_S]:
        counts[at.TOTAL_FINISHED] += 1
        counts[at.TOTAL_SLO_MISSED] += missed
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
def ttft_quantile(server: int, values: Floats, count: int, q: float) -> float:
    """Returns a quantile of sorted TTFTs and of the ages of queued requests together."""
    counts = counts_of(server)
    times, tail = times_of(counts), counts[at.TAIL]
    now = numbers_of(server)[at.NOW]
    waiting = tail - counts[at.HEAD]
    if count + waiting == 0:
        return 0.0
    rank = nearest_rank(q, count + waiting)
    # The rank-th smallest takes `low` values and `rank - low` of the youngest in the queue.
    low, high = max(0, rank - waiting), min(rank, count)
    while low < high:
        middle = (low + high) // 2
        if values[middle] < now - times[tail - (rank - middle)]:
            low = middle + 1
        else:
            high = middle
    quantile = values[low - 1] if low > 0 else 0.0
    if rank - low > 0:
        quantile = max(quantile, now - times[tail - (rank - low)])
    return float(quantile)


@kernel
def _queued_before(server: int, moment: float) -> int:
    """Counts queued requests that arrived before ``moment``."""
    counts = counts_of(server)
    times = times_of(counts)
    low, high = counts[at.HEAD], counts[at.TAIL]
    while low < high:
        middle = (low + high) // 2
        if times[middle] < moment:
            low = middle + 1
        else:
            high = middle
    return int(low - counts[at.HEAD])


@inlined
def admitted(server: int, index: int) -> int:
    """Returns the slot of the ``index``-th request of those that decode, prefill or wait."""
    counts = counts_of(server)
    if index < counts[at.DECODING]:
        entry = finishing_of(counts)[counts[at.FIRST] + index]
        return int(entry) & ((1 << at.SLOT_BITS) - 1)
    index -= counts[at.DECODING]
    if index < counts[at.PREFILLING]:
        return int(list_at(counts, at.PREFILLING_AT)[index])
    return int(list_at(counts, at.PREEMPTED_AT)[index - counts[at.PREFILLING]])


@inlined
def num_admitted(server: int) -> int:
    """Returns the number of requests that :func:`admitted` walks through."""
    counts = counts_of(server)
    return int(counts[at.DECODING] + counts[at.PREFILLING] + counts[at.PREEMPTED])


@kernel
def overdue(server: int, since: float) -> int:
    """Counts unfinished requests, arrived since a moment, that are already past an SLO."""
    numbers, counts = numbers_of(server), counts_of(server)
    now = numbers[at.NOW]
    ttft_slo, tpot_slo = numbers[at.TTFT_SLO_S], numbers[at.TPOT_SLO_S]
    if ttft_slo == math.inf and tpot_slo == math.inf:
        return 0
    slots, stamps = slots_of(counts), stamps_of(counts)
    late = max(0, _queued_before(server, now - ttft_slo) - _queued_before(server, since))
    for index in range(num_admitted(server)):
        slot = admitted(server, index)
        arrived_s, first_s = stamps[slot, at.ARRIVED_S], stamps[slot, at.FIRST_TOKEN_S]
        if arrived_s < since:
            continue
        if first_s < 0.0:
            late += now - arrived_s > ttft_slo
            continue
        tokens = slots[slot, at.GENERATED]
        if index < counts[at.DECODING]:
            tokens = generated(server, slot)
        # Its mean so far, were the next token to come at this moment.
        late += first_s - arrived_s > ttft_slo or now - first_s > tpot_slo * tokens
    return late


@kernel
def count_unfinished(server: int, ttft: Ints) -> int:
    """Adds requests without a first token to the counts ``ttft`` with their age.

    Returns:
        Unfinished requests, arrived after the warm-up, that are already past an SLO.
    """
    numbers, counts = numbers_of(server), counts_of(server)
    times, stamps = times_of(counts), stamps_of(counts)
    now, warmup = numbers[at.NOW], numbers[at.WARMUP_S]
    for index in range(counts[at.HEAD] + _queued_before(server, warmup), counts[at.TAIL]):
        ttft[_bucket(now - times[index])] += 1
    for index in range(num_admitted(server)):
        slot = admitted(server, index)
        arrived_s = stamps[slot, at.ARRIVED_S]
        if stamps[slot, at.FIRST_TOKEN_S] < 0.0 and arrived_s >= warmup:
            ttft[_bucket(now - arrived_s)] += 1
    return overdue(server, warmup)
