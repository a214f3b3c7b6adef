"""The running batch: who decodes, until when, and which KV blocks that takes.

Decoding requests stand in a list sorted by the step in which they finish, so that the next
one to finish is its first entry. How many blocks a step needs follows from the requests'
phases: one whose cached tokens fill its blocks at step ``i`` does so again at
``i + block size``.
"""

from __future__ import annotations

from envs.compiled.jit import inlined, kernel
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.views import (
    counts_of,
    finishing_of,
    list_at,
    phases_of,
    slots_of,
)


@inlined
def blocks(tokens: int, block_size: int) -> int:
    """Returns the blocks that so many tokens take."""
    return (tokens + block_size - 1) // block_size


@inlined
def free_blocks(server: int) -> int:
    """Returns the KV blocks not in use."""
    counts = counts_of(server)
    return int(counts[at.BLOCKS] - counts[at.BLOCKS_USED])


@inlined
def next_finish(server: int) -> int:
    """Returns the step at whose end the next request finishes."""
    counts = counts_of(server)
    if counts[at.DECODING] == 0:
        return at.NEVER
    return int(finishing_of(counts)[counts[at.FIRST]] >> at.SLOT_BITS)


@inlined
def generated(server: int, slot: int) -> int:
    """Returns the tokens that a decoding request has produced so far."""
    counts = counts_of(server)
    slots = slots_of(counts)
    return int(slots[slot, at.OUTPUT] - (slots[slot, at.FINISH_AT] - counts[at.ITERATION]))


@inlined
def take_slot(server: int) -> int:
    """Takes a free slot."""
    counts = counts_of(server)
    counts[at.FREE] -= 1
    return int(list_at(counts, at.FREE_AT)[counts[at.FREE]])


@inlined
def advance_phase(server: int, iterations: int) -> None:
    """Lets engine steps pass for the phases of the requests."""
    counts = counts_of(server)
    size = counts[at.BLOCK_SIZE]
    phase = counts[at.PHASE] - (iterations if iterations < size else iterations % size)
    counts[at.PHASE] = phase if phase >= 0 else phase + size


@kernel
def join(server: int, slot: int) -> None:
    """Adds a request to those that decode; its ``FINISH_AT`` is set."""
    counts = counts_of(server)
    slots, phases, finishing = slots_of(counts), phases_of(counts), finishing_of(counts)
    tokens = slots[slot, at.PROMPT] + slots[slot, at.GENERATED] - 1  # the last is not cached yet
    phase = (tokens + counts[at.PHASE]) % counts[at.BLOCK_SIZE]
    slots[slot, at.SLOT_PHASE] = phase
    phases[phase] += 1
    counts[at.CONTEXT] += tokens
    first, count = counts[at.FIRST], counts[at.DECODING]
    if first + count == len(finishing):  # no room behind: move all to the front
        for position in range(count):
            finishing[position] = finishing[first + position]
        first = counts[at.FIRST] = 0
    entry = (slots[slot, at.FINISH_AT] << at.SLOT_BITS) | slot
    place = first + count
    while place > first and finishing[place - 1] > entry:
        finishing[place] = finishing[place - 1]
        place -= 1
    finishing[place] = entry
    counts[at.DECODING] += 1


@inlined
def _forget(server: int, slot: int, tokens: int) -> None:
    """Takes a decoding request with so many cached tokens out of the sums over the batch."""
    counts = counts_of(server)
    phases_of(counts)[slots_of(counts)[slot, at.SLOT_PHASE]] -= 1
    counts[at.CONTEXT] -= tokens
    counts[at.DECODING] -= 1
    counts[at.BLOCKS_USED] -= blocks(tokens, counts[at.BLOCK_SIZE])


@kernel
def leave_finished(server: int) -> int:
    """Removes the first request to finish; returns its slot, which stays readable."""
    counts = counts_of(server)
    slots = slots_of(counts)
    slot = int(finishing_of(counts)[counts[at.FIRST]]) & ((1 << at.SLOT_BITS) - 1)
    counts[at.FIRST] += 1
    _forget(server, slot, slots[slot, at.PROMPT] + slots[slot, at.OUTPUT] - 1)
    list_at(counts, at.FREE_AT)[counts[at.FREE]] = slot
    counts[at.FREE] += 1
    return slot


@kernel
def preempt_newest(server: int) -> None:
    """Takes the newest running request out of the batch and puts it before the queue."""
    counts = counts_of(server)
    slots, preempted = slots_of(counts), list_at(counts, at.PREEMPTED_AT)
    if counts[at.PREFILLING] > 0:
        counts[at.PREFILLING] -= 1
        newest = list_at(counts, at.PREFILLING_AT)[counts[at.PREFILLING]]
        counts[at.BLOCKS_USED] -= blocks(slots[newest, at.COMPUTED], counts[at.BLOCK_SIZE])
    else:
        newest = _take_newest_decoding(server)
        slots[newest, at.GENERATED] = generated(server, newest)
        _forget(server, newest, slots[newest, at.PROMPT] + slots[newest, at.GENERATED] - 1)
    slots[newest, at.COMPUTED] = 0
    preempted[counts[at.PREEMPTED]] = newest
    counts[at.PREEMPTED] += 1
    counts[at.PREEMPTIONS] += 1


@kernel
def _take_newest_decoding(server: int) -> int:
    counts = counts_of(server)
    slots, finishing = slots_of(counts), finishing_of(counts)
    first, last = counts[at.FIRST], counts[at.FIRST] + counts[at.DECODING] - 1
    mask = (1 << at.SLOT_BITS) - 1
    place = first
    newest = finishing[first] & mask
    for position in range(first + 1, last + 1):
        slot = finishing[position] & mask
        if slots[slot, at.ORDER] > slots[newest, at.ORDER]:
            place, newest = position, slot
    for position in range(place, last):
        finishing[position] = finishing[position + 1]
    return int(newest)
