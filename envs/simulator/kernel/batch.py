"""The running batch: who decodes, until when, and which KV blocks that takes.

Decoding requests stand in a list sorted by the step in which they finish, so that the next
one to finish is its first entry. How many blocks a step needs follows from the requests'
phases: one whose cached tokens fill its blocks at step ``i`` does so again at
``i + block size``.
"""

from __future__ import annotations

from envs.compiled.jit import inlined, kernel
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.layout import Server
from envs.simulator.kernel.views import (
    finishing_of,
    free_of,
    phases_of,
    preempted_of,
    prefilling_of,
    requests_of,
)


@inlined
def blocks(tokens: int, block_size: int) -> int:
    """Returns the blocks that so many tokens take."""
    return (tokens + block_size - 1) // block_size


@inlined
def free_blocks(server: Server) -> int:
    """Returns the KV blocks not in use."""
    return server.blocks - server.blocks_used


@inlined
def next_finish(server: Server) -> int:
    """Returns the step at whose end the next request finishes."""
    if server.decoding == 0:
        return at.NEVER
    return int(finishing_of(server)[server.first] >> at.SLOT_BITS)


@inlined
def generated(server: Server, slot: int) -> int:
    """Returns the tokens that a decoding request has produced so far."""
    requests = requests_of(server)
    return int(requests[slot].output_tokens - (requests[slot].finish_at - server.iteration))


@inlined
def take_slot(server: Server) -> int:
    """Takes a free slot."""
    server.free -= 1
    return int(free_of(server)[server.free])


@inlined
def advance_phase(server: Server, iterations: int) -> None:
    """Lets engine steps pass for the phases of the requests."""
    size = server.block_size
    phase = server.phase - (iterations if iterations < size else iterations % size)
    server.phase = phase if phase >= 0 else phase + size


@kernel
def join(server: Server, slot: int) -> None:
    """Adds a request to those that decode; its ``finish_at`` is set."""
    requests, phases, finishing = requests_of(server), phases_of(server), finishing_of(server)
    tokens = (
        requests[slot].prompt_tokens + requests[slot].generated_tokens - 1
    )  # the last is not cached yet
    phase = (tokens + server.phase) % server.block_size
    requests[slot].phase = phase
    phases[phase] += 1
    server.context_tokens += tokens
    first, count = server.first, server.decoding
    if first + count == len(finishing):  # no room behind: move all to the front
        for position in range(count):
            finishing[position] = finishing[first + position]
        first = server.first = 0
    entry = (requests[slot].finish_at << at.SLOT_BITS) | slot
    place = first + count
    while place > first and finishing[place - 1] > entry:
        finishing[place] = finishing[place - 1]
        place -= 1
    finishing[place] = entry
    server.decoding += 1


@inlined
def _forget(server: Server, slot: int, tokens: int) -> None:
    """Takes a decoding request with so many cached tokens out of the sums over the batch."""
    phases_of(server)[requests_of(server)[slot].phase] -= 1
    server.context_tokens -= tokens
    server.decoding -= 1
    server.blocks_used -= blocks(tokens, server.block_size)


@kernel
def leave_finished(server: Server) -> int:
    """Removes the first request to finish; returns its slot, which stays readable."""
    requests = requests_of(server)
    slot = int(finishing_of(server)[server.first]) & ((1 << at.SLOT_BITS) - 1)
    server.first += 1
    _forget(server, slot, requests[slot].prompt_tokens + requests[slot].output_tokens - 1)
    free_of(server)[server.free] = slot
    server.free += 1
    return slot


@kernel
def preempt_newest(server: Server) -> None:
    """Takes the newest running request out of the batch and puts it before the queue."""
    requests, preempted = requests_of(server), preempted_of(server)
    if server.prefilling > 0:
        server.prefilling -= 1
        newest = prefilling_of(server)[server.prefilling]
        server.blocks_used -= blocks(requests[newest].computed_tokens, server.block_size)
    else:
        newest = _take_newest_decoding(server)
        requests[newest].generated_tokens = generated(server, newest)
        _forget(
            server, newest, requests[newest].prompt_tokens + requests[newest].generated_tokens - 1
        )
    requests[newest].computed_tokens = 0
    preempted[server.preempted] = newest
    server.preempted += 1
    server.preemptions += 1


@kernel
def _take_newest_decoding(server: Server) -> int:
    requests, finishing = requests_of(server), finishing_of(server)
    first, last = server.first, server.first + server.decoding - 1
    mask = (1 << at.SLOT_BITS) - 1
    place = first
    newest = finishing[first] & mask
    for position in range(first + 1, last + 1):
        slot = finishing[position] & mask
        if requests[slot].order > requests[newest].order:
            place, newest = position, slot
    for position in range(place, last):
        finishing[position] = finishing[position + 1]
    return int(newest)
