"""The running batch: who decodes, until when, and which KV blocks that takes.

Decoding requests stand in a list sorted by the step in which they finish, so that the next
one to finish is its first entry. How many blocks a step needs follows from the requests'
phases: one whose cached tokens fill its blocks at step ``i`` does so again at
``i + block size``.
"""

from __future__ import annotations

from envs.compiled.jit import inlined, kernel
from envs.compiled.records import Ints
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.batch_numbers import blocks, generated
from envs.simulator.kernel.layout import Engine, Server
from envs.simulator.kernel.prefix import give_back
from envs.simulator.kernel.views import (
    finishing_of,
    free_of,
    phases_of,
    preempted_of,
    prefilling_of,
    requests_of,
)


@inlined
def take_slot(engine: Engine) -> int:
    """Takes a free slot."""
    engine.free -= 1
    return int(free_of(engine)[engine.free])


@inlined
def advance_phase(engine: Engine, iterations: int) -> None:
    """Lets engine steps pass for the phases of the requests."""
    size = engine.block_size
    phase = engine.phase - (iterations if iterations < size else iterations % size)
    engine.phase = phase if phase >= 0 else phase + size


@kernel
def join(engine: Engine, slot: int) -> None:
    """Adds a request to those that decode; its ``finish_at`` is set."""
    requests, phases, finishing = requests_of(engine), phases_of(engine), finishing_of(engine)
    tokens = (
        requests[slot].prompt_tokens + requests[slot].generated_tokens - 1
    )  # the last is not cached yet
    phase = (tokens + engine.phase) % engine.block_size
    requests[slot].phase = phase
    phases[phase] += 1
    engine.context_tokens += tokens
    first, count = engine.first, engine.decoding
    if first + count == len(finishing):  # no room behind: move all to the front
        for position in range(count):
            finishing[position] = finishing[first + position]
        first = engine.first = 0
    entry = (requests[slot].finish_at << at.SLOT_BITS) | slot
    place = _place_of(finishing, entry, first, first + count)
    if first > 0 and place - first < first + count - place:  # fewer before it than behind it
        for position in range(first, place):
            finishing[position - 1] = finishing[position]
        place -= 1
        engine.first = first - 1
    else:
        for position in range(first + count, place, -1):
            finishing[position] = finishing[position - 1]
    finishing[place] = entry
    engine.decoding += 1


@inlined
def _place_of(finishing: Ints, entry: int, low: int, high: int) -> int:
    """Returns the place of an entry among sorted ones."""
    while low < high:
        middle = (low + high) // 2
        if finishing[middle] > entry:
            high = middle
        else:
            low = middle + 1
    return low


@inlined
def _forget(engine: Engine, slot: int, tokens: int) -> None:
    """Takes a decoding request with so many cached tokens out of the sums over the batch."""
    phases_of(engine)[requests_of(engine)[slot].phase] -= 1
    engine.context_tokens -= tokens
    engine.decoding -= 1
    _give_back(engine, slot, tokens)


@inlined
def _give_back(engine: Engine, slot: int, tokens: int) -> None:
    """Frees the blocks of a request with so many cached tokens."""
    if engine.caches:
        give_back(engine, slot, tokens)
    else:
        engine.blocks_used -= blocks(tokens, engine.block_size)


@kernel
def leave_finished(engine: Engine) -> int:
    """Removes the first request to finish; returns its slot, which stays readable."""
    requests = requests_of(engine)
    if engine.caches:
        _put_oldest_first(engine)  # the order in which blocks are given back counts
    slot = int(finishing_of(engine)[engine.first]) & ((1 << at.SLOT_BITS) - 1)
    engine.first += 1
    _forget(engine, slot, requests[slot].prompt_tokens + requests[slot].output_tokens - 1)
    free_of(engine)[engine.free] = slot
    engine.free += 1
    return slot


@kernel
def _put_oldest_first(engine: Engine) -> None:
    """Puts the request that was admitted first before others that finish in the same step."""
    requests, finishing = requests_of(engine), finishing_of(engine)
    mask = (1 << at.SLOT_BITS) - 1
    first, last = engine.first, engine.first + engine.decoding
    step = finishing[first] >> at.SLOT_BITS
    place = first + 1
    while place < last and finishing[place] >> at.SLOT_BITS == step:
        if requests[finishing[place] & mask].order < requests[finishing[first] & mask].order:
            finishing[first], finishing[place] = finishing[place], finishing[first]
        place += 1


@kernel
def preempt_newest(server: Server, engine: Engine) -> None:
    """Takes the newest running request out of the batch and puts it before the queue."""
    requests, preempted = requests_of(engine), preempted_of(engine)
    if engine.prefilling > 0:
        engine.prefilling -= 1
        newest = prefilling_of(engine)[engine.prefilling]
        _give_back(engine, newest, requests[newest].computed_tokens)
    else:
        newest = _take_newest_decoding(engine)
        requests[newest].generated_tokens = generated(engine, newest)
        _forget(
            engine, newest, requests[newest].prompt_tokens + requests[newest].generated_tokens - 1
        )
    requests[newest].computed_tokens = 0
    preempted[engine.preempted] = newest
    engine.preempted += 1
    server.preemptions += 1


@kernel
def _take_newest_decoding(engine: Engine) -> int:
    requests, finishing = requests_of(engine), finishing_of(engine)
    first, last = engine.first, engine.first + engine.decoding - 1
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
