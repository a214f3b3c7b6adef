"""Requests on their way in: open arrivals, closed loops, rejection, the queue."""

from __future__ import annotations

from envs.compiled.jit import kernel
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.views import counts_of, lengths_of, times_of

REFUSALS = 64
"""Clients of a closed loop that are refused in a row before they try again a step later."""


@kernel
def ingest(server: int, now: float) -> int:
    """Moves requests that have arrived by ``now`` into the queue, or rejects them.

    Returns:
        ``NEEDS_REQUESTS`` when all known requests have arrived and more may come.
    """
    counts = counts_of(server)
    times = times_of(counts)
    while counts[at.NEXT] < counts[at.END]:
        arrived_s = times[counts[at.NEXT]]
        if arrived_s > now:
            return at.DONE
        _accept(server, arrived_s)
    return at.DONE if counts[at.EXHAUSTED] else at.NEEDS_REQUESTS


@kernel
def refill(server: int, now: float) -> int:
    """Closed loop: keeps the set number of requests in flight; see :func:`ingest`."""
    counts = counts_of(server)
    refused = 0
    while counts[at.IN_FLIGHT] < counts[at.CONCURRENCY]:
        if counts[at.NEXT] >= counts[at.END]:
            return at.DONE if counts[at.EXHAUSTED] else at.NEEDS_REQUESTS
        if _accept(server, now):
            counts[at.IN_FLIGHT] += 1
            refused = 0
            continue
        refused += 1
        if refused == REFUSALS:
            return at.DONE
    return at.DONE


@kernel
def _accept(server: int, arrived_s: float) -> bool:
    """Takes the next request; returns whether it fits the model's context."""
    counts = counts_of(server)
    times, lengths = times_of(counts), lengths_of(counts)
    source = counts[at.NEXT]
    counts[at.NEXT] += 1
    counts[at.ARRIVALS] += 1
    prompt, output = lengths[source, 0], lengths[source, 1]
    if prompt + output > counts[at.MAX_MODEL_LEN]:
        counts[at.REJECTED] += 1
        return False
    tail = counts[at.TAIL]
    times[tail] = arrived_s
    lengths[tail, 0] = prompt
    lengths[tail, 1] = output
    counts[at.TAIL] += 1
    counts[at.QUEUED_PROMPT] += prompt
    return True
