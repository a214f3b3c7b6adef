"""Requests on their way in: open arrivals, closed loops, rejection, the queue."""

from __future__ import annotations

from envs.compiled.jit import kernel
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.layout import Server
from envs.simulator.kernel.views import lengths_of, times_of

REFUSALS = 64
"""Clients of a closed loop that are refused in a row before they try again a step later."""


@kernel
def ingest(server: Server, now: float) -> int:
    """Moves requests that have arrived by ``now`` into the queue, or rejects them.

    Returns:
        ``NEEDS_REQUESTS`` when all known requests have arrived and more may come.
    """
    times = times_of(server)
    while server.next_arrival < server.arrivals_end:
        arrived_s = times[server.next_arrival]
        if arrived_s > now:
            return at.DONE
        _accept(server, arrived_s)
    return at.DONE if server.exhausted else at.NEEDS_REQUESTS


@kernel
def refill(server: Server, now: float) -> int:
    """Closed loop: keeps the set number of requests in flight; see :func:`ingest`."""
    refused = 0
    while server.in_flight < server.concurrency:
        if server.next_arrival >= server.arrivals_end:
            return at.DONE if server.exhausted else at.NEEDS_REQUESTS
        if _accept(server, now):
            server.in_flight += 1
            refused = 0
            continue
        refused += 1
        if refused == REFUSALS:
            return at.DONE
    return at.DONE


@kernel
def _accept(server: Server, arrived_s: float) -> bool:
    """Takes the next request; returns whether it fits the model's context."""
    times, lengths = times_of(server), lengths_of(server)
    source = server.next_arrival
    server.next_arrival += 1
    server.arrivals += 1
    prompt, output = lengths[source, 0], lengths[source, 1]
    if prompt + output > server.max_model_len:
        server.rejected += 1
        return False
    tail = server.queue_tail
    times[tail] = arrived_s
    lengths[tail, 0] = prompt
    lengths[tail, 1] = output
    server.queue_tail += 1
    server.queued_prompt_tokens += prompt
    return True
