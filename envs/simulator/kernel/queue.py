"""The queue: requests that have arrived, each of which waits for one engine."""

from __future__ import annotations

import math

from envs.compiled.jit import inlined, kernel
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.layout import Engine, Server
from envs.simulator.kernel.views import arrivals_of, engine_at

REPORT_S = 0.1
"""Time between two reports of what the engines have (vLLM's ``DPCoordinator``)."""
FULL_CACHE_WEIGHT, FREE_USAGE = 6.0, 0.5
"""How much a waiting request counts more, times the KV-cache usage above the second number."""


@inlined
def first_in_queue(server: Server, engine: Engine) -> int:
    """Returns the place of the first request that waits for an engine; there is one."""
    arrivals = arrivals_of(server)
    while arrivals[engine.queue_head].engine != engine.index:
        engine.queue_head += 1
    return int(engine.queue_head)


@inlined
def leave_queue(server: Server, engine: Engine) -> None:
    """Takes the request at an engine's place in the queue out of it."""
    arrivals = arrivals_of(server)
    place = engine.queue_head
    arrivals[place].engine = at.GONE
    engine.queue_head += 1
    engine.queued -= 1
    server.queued -= 1
    server.queued_prompt_tokens -= arrivals[place].prompt_tokens
    head, tail = server.queue_head, server.queue_tail
    while head < tail and arrivals[head].engine == at.GONE:
        head += 1
    server.queue_head = head


@kernel
def close_gaps(server: Server) -> None:
    """Moves the requests in the queue together, so that it holds nothing else."""
    head, tail = server.queue_head, server.queue_tail
    if tail - head == server.queued:
        return
    arrivals = arrivals_of(server)
    place = head
    for source in range(head, tail):
        if arrivals[source].engine != at.GONE:
            arrivals[place] = arrivals[source]
            place += 1
    server.queue_tail = place
    for index in range(server.replicas):
        engine_at(server, index).queue_head = head


@kernel
def least_busy(server: Server, now: float) -> int:
    """Returns the engine that the next request goes to, as vLLM's front end chooses it.

    The one with the fewest requests (vLLM 0.32, ``DPLBAsyncMPClient``): those that were sent to
    it and are unfinished, or what it reported within the last tenth of a second and was sent since,
    whichever is more. Those that wait count more where its KV cache is more than half full. Of
    equals the one whose turn it is.
    """
    replicas = server.replicas
    if now - server.reported_s >= REPORT_S:
        server.reported_s = now
        for index in range(replicas):
            _report(engine_at(server, index))
    best, chosen = math.inf, 0
    for turn in range(replicas):
        index = (server.next_engine + turn) % replicas
        score = _load(engine_at(server, index))
        if score < best:
            best, chosen = score, index
    engine_at(server, chosen).reported_waiting += 1
    server.next_engine = (server.next_engine + 1) % replicas
    return int(chosen)


@inlined
def _report(engine: Engine) -> None:
    """Notes what an engine tells the front end."""
    engine.reported_waiting = engine.queued + engine.preempted
    engine.reported_running = engine.decoding + engine.prefilling
    engine.reported_usage = engine.blocks_used / engine.blocks


@inlined
def _load(engine: Engine) -> float:
    """Returns how busy an engine seems to the front end."""
    sent = engine.queued + engine.preempted + engine.decoding + engine.prefilling
    waiting = engine.reported_waiting
    score = float(max(sent, waiting + engine.reported_running))
    if waiting > 0:
        score += waiting * FULL_CACHE_WEIGHT * max(0.0, engine.reported_usage - FREE_USAGE)
    return score
