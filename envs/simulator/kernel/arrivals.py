"""Requests on their way in: open arrivals, closed loops, rejection, the queue."""

from __future__ import annotations

from envs.compiled.jit import inlined, kernel
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.layout import Server
from envs.simulator.kernel.queue import close_gaps, least_busy
from envs.simulator.kernel.views import arrivals_of, engine_at

REFUSALS = 64
"""Clients of a closed loop that are refused in a row before they try again a step later."""


@kernel
def ingest(server: Server, now: float) -> int:
    """Moves requests that have arrived by ``now`` into the queue, or rejects them.

    Returns:
        ``NEEDS_REQUESTS`` when all known requests have arrived and more may come.
    """
    arrivals = arrivals_of(server)
    while server.next_arrival < server.arrivals_end:
        arrived_s = arrivals[server.next_arrival].arrived_s
        if arrived_s > now:
            return at.DONE
        _accept(server, arrived_s, now)
    return _out_of_requests(server)


@kernel
def refill(server: Server, now: float) -> int:
    """Closed loop: keeps the set number of requests in flight; see :func:`ingest`."""
    while server.in_flight < server.concurrency:
        if server.next_arrival >= server.arrivals_end:
            return _out_of_requests(server)
        if _accept(server, now, now):
            server.in_flight += 1
            server.refused = 0
            continue
        server.refused += 1
        if server.refused == REFUSALS:
            server.refused = 0
            return at.DONE
    return at.DONE


@inlined
def _out_of_requests(server: Server) -> int:
    if server.exhausted:
        return at.DONE
    close_gaps(server)  # or the memory would grow by requests that have long been served
    return at.NEEDS_REQUESTS


@kernel
def _accept(server: Server, arrived_s: float, now: float) -> bool:
    """Takes the next request; returns whether it fits the model's context and the queue."""
    arrivals = arrivals_of(server)
    source = server.next_arrival
    server.next_arrival += 1
    server.arrivals += 1
    prompt, output = arrivals[source].prompt_tokens, arrivals[source].output_tokens
    # Compared one by one: the sum of what a stream makes up may be more than a word holds.
    fits = prompt >= 1 and output >= 1 and prompt <= server.max_model_len - output
    if not fits or server.queued >= server.max_waiting:
        server.rejected += 1
        return False
    chosen = least_busy(server, now) if server.replicas > 1 else 0
    tail = server.queue_tail
    arrivals[tail].arrived_s = arrived_s
    arrivals[tail].prompt_tokens = prompt
    arrivals[tail].output_tokens = output
    text = arrivals[source].text
    arrivals[tail].text = text if text >= 0 else at.OWN_TEXTS + server.accepted
    arrivals[tail].first_id = arrivals[source].first_id
    arrivals[tail].id_shift = arrivals[source].id_shift
    arrivals[tail].engine = chosen
    server.accepted += 1
    engine_at(server, chosen).queued += 1
    server.queued += 1
    server.queue_tail += 1
    server.queued_prompt_tokens += prompt
    return True
