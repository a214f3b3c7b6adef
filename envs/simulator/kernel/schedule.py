"""What the next engine step computes: decoding first, then prompts, then admissions."""

from __future__ import annotations

from envs.compiled.jit import inlined, kernel
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.batch import (
    blocks,
    free_blocks,
    next_finish,
    preempt_newest,
    take_slot,
)
from envs.simulator.kernel.views import (
    counts_of,
    lengths_of,
    list_at,
    numbers_of,
    phases_of,
    slots_of,
    stamps_of,
    times_of,
)


@inlined
def blocks_for_step(server: int) -> int:
    """Returns the new KV blocks that the decoding requests need in the next step."""
    counts = counts_of(server)
    return int(phases_of(counts)[counts[at.PHASE]])


@inlined
def make_room(server: int) -> bool:
    """Preempts until the decoding requests' blocks are there; returns whether it had to."""
    preempted = False
    while blocks_for_step(server) > free_blocks(server):
        preempt_newest(server)
        preempted = True
    return preempted


@kernel
def continue_prompt(server: int, budget: int) -> tuple[int, float]:
    """Schedules a chunk of the prompt that is under way.

    Returns:
        Tokens and pairs of tokens scheduled; -1 tokens when the request was preempted for
        lack of blocks.
    """
    counts = counts_of(server)
    slots = slots_of(counts)
    size = counts[at.BLOCK_SIZE]
    slot = list_at(counts, at.PREFILLING_AT)[0]
    done = slots[slot, at.COMPUTED]
    goal = slots[slot, at.PROMPT] + slots[slot, at.GENERATED]
    chunk = min(goal - done, budget)
    more = blocks(done + chunk, size) - blocks(done, size)
    if more > free_blocks(server):
        preempt_newest(server)
        return -1, 0.0
    slots[slot, at.COMPUTED] += chunk
    counts[at.BLOCKS_USED] += more
    return chunk, chunk * (done + 0.5 * (chunk + 1.0))


@kernel
def admit(server: int, budget: int) -> tuple[int, float]:
    """Admits waiting requests; returns prompt tokens and pairs of tokens scheduled."""
    counts = counts_of(server)
    lengths, size = lengths_of(counts), counts[at.BLOCK_SIZE]
    slots, prefilling = slots_of(counts), list_at(counts, at.PREFILLING_AT)
    tokens, pairs = 0, 0.0
    while budget > tokens and counts[at.DECODING] + counts[at.PREFILLING] < counts[at.MAX_SEQS]:
        slot = -1
        if counts[at.PREEMPTED] > 0:
            slot = list_at(counts, at.PREEMPTED_AT)[counts[at.PREEMPTED] - 1]
            goal = slots[slot, at.PROMPT] + slots[slot, at.GENERATED]
        elif counts[at.HEAD] < counts[at.TAIL]:
            goal = lengths[counts[at.HEAD], 0]
        else:
            break
        # vLLM admits a request only if all of it fits, though it allocates the first chunk alone.
        if blocks(goal, size) > free_blocks(server):
            break
        if slot >= 0:
            counts[at.PREEMPTED] -= 1
        else:
            slot = _enter(server)
        chunk = min(goal, budget - tokens)
        slots[slot, at.COMPUTED] = chunk
        prefilling[counts[at.PREFILLING]] = slot
        counts[at.PREFILLING] += 1
        counts[at.BLOCKS_USED] += blocks(chunk, size)
        tokens += chunk
        pairs += 0.5 * chunk * (chunk + 1.0)
    return tokens, pairs


@inlined
def _enter(server: int) -> int:
    """Gives the first request of the queue a slot."""
    counts = counts_of(server)
    times, lengths = times_of(counts), lengths_of(counts)
    slot, head = take_slot(server), counts[at.HEAD]
    slots, stamps = slots_of(counts), stamps_of(counts)
    slots[slot, at.PROMPT] = lengths[head, 0]
    slots[slot, at.OUTPUT] = lengths[head, 1]
    slots[slot, at.GENERATED] = 0
    slots[slot, at.COUNTED] = 0
    slots[slot, at.ORDER] = counts[at.ADMITTED]
    stamps[slot, at.ARRIVED_S] = times[head]
    stamps[slot, at.FIRST_TOKEN_S] = -1.0
    counts[at.ADMITTED] += 1
    counts[at.HEAD] += 1
    counts[at.QUEUED_PROMPT] -= lengths[head, 0]
    return slot


@kernel
def steps_until_change(server: int, step_s: float) -> int:
    """Returns how many steps of a length may be taken before the batch can change.

    It changes when a request finishes, when one that arrives can join, when a KV block is
    missing, and new knobs may come at the end of the interval.
    """
    numbers, counts = numbers_of(server), counts_of(server)
    limit = next_finish(server) - counts[at.ITERATION]
    if counts[at.JUMP] == 0 or step_s <= 0.0 or limit <= 1:
        return 1
    now = numbers[at.NOW]
    limit = min(limit, int((numbers[at.UNTIL] - now) / step_s))
    waiting = counts[at.HEAD] < counts[at.TAIL] or counts[at.PREEMPTED] > 0
    joinable = not waiting and counts[at.DECODING] < counts[at.MAX_SEQS]
    if joinable and counts[at.CONCURRENCY] == 0 and counts[at.NEXT] < counts[at.END]:
        until_next_s = times_of(counts)[counts[at.NEXT]] - now
        limit = min(limit, int(until_next_s / step_s) + 1)
    return int(max(1, limit))


@kernel
def blocks_for_run(server: int, steps: int) -> tuple[int, int]:
    """Returns how many of so many steps the free KV blocks allow, and the blocks they take."""
    counts = counts_of(server)
    phases, phase = phases_of(counts), counts[at.PHASE]
    free = free_blocks(server)
    needed = phases[phase]
    for taken in range(1, steps):
        phase = phase - 1 if phase > 0 else counts[at.BLOCK_SIZE] - 1
        if needed + phases[phase] > free:
            return taken, needed
        needed += phases[phase]
    return steps, needed
