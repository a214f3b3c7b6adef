"""What the next engine step computes: decoding first, then prompts, then admissions."""

from __future__ import annotations

from envs.compiled.jit import inlined, kernel
from envs.simulator.kernel.batch import (
    blocks,
    free_blocks,
    next_finish,
    preempt_newest,
    take_slot,
)
from envs.simulator.kernel.layout import Server
from envs.simulator.kernel.views import (
    lengths_of,
    phases_of,
    preempted_of,
    prefilling_of,
    requests_of,
    times_of,
)


@inlined
def blocks_for_step(server: Server) -> int:
    """Returns the new KV blocks that the decoding requests need in the next step."""
    return int(phases_of(server)[server.phase])


@inlined
def make_room(server: Server) -> bool:
    """Preempts until the decoding requests' blocks are there; returns whether it had to."""
    preempted = False
    while blocks_for_step(server) > free_blocks(server):
        preempt_newest(server)
        preempted = True
    return preempted


@kernel
def continue_prompt(server: Server, budget: int) -> tuple[int, float]:
    """Schedules a chunk of the prompt that is under way.

    Returns:
        Tokens and pairs of tokens scheduled; -1 tokens when the request was preempted for
        lack of blocks.
    """
    requests = requests_of(server)
    size = server.block_size
    slot = prefilling_of(server)[0]
    done = requests[slot].computed_tokens
    goal = requests[slot].prompt_tokens + requests[slot].generated_tokens
    chunk = min(goal - done, budget)
    more = blocks(done + chunk, size) - blocks(done, size)
    if more > free_blocks(server):
        preempt_newest(server)
        return -1, 0.0
    requests[slot].computed_tokens += chunk
    server.blocks_used += more
    return chunk, chunk * (done + 0.5 * (chunk + 1.0))


@kernel
def admit(server: Server, budget: int) -> tuple[int, float]:
    """Admits waiting requests; returns prompt tokens and pairs of tokens scheduled."""
    lengths, size = lengths_of(server), server.block_size
    requests, prefilling = requests_of(server), prefilling_of(server)
    tokens, pairs = 0, 0.0
    while budget > tokens and server.decoding + server.prefilling < server.max_seqs:
        slot = -1
        if server.preempted > 0:
            slot = preempted_of(server)[server.preempted - 1]
            goal = requests[slot].prompt_tokens + requests[slot].generated_tokens
        elif server.queue_head < server.queue_tail:
            goal = lengths[server.queue_head, 0]
        else:
            break
        # vLLM admits a request only if all of it fits, though it allocates the first chunk alone.
        if blocks(goal, size) > free_blocks(server):
            break
        if slot >= 0:
            server.preempted -= 1
        else:
            slot = _enter(server)
        chunk = min(goal, budget - tokens)
        requests[slot].computed_tokens = chunk
        prefilling[server.prefilling] = slot
        server.prefilling += 1
        server.blocks_used += blocks(chunk, size)
        tokens += chunk
        pairs += 0.5 * chunk * (chunk + 1.0)
    return tokens, pairs


@inlined
def _enter(server: Server) -> int:
    """Gives the first request of the queue a slot."""
    times, lengths = times_of(server), lengths_of(server)
    slot, head = take_slot(server), server.queue_head
    requests = requests_of(server)
    requests[slot].prompt_tokens = lengths[head, 0]
    requests[slot].output_tokens = lengths[head, 1]
    requests[slot].generated_tokens = 0
    requests[slot].counted_tokens = 0
    requests[slot].order = server.admitted
    requests[slot].arrived_s = times[head]
    requests[slot].first_token_s = -1.0
    server.admitted += 1
    server.queue_head += 1
    server.queued_prompt_tokens -= lengths[head, 0]
    return slot


@kernel
def steps_until_change(server: Server, step_s: float) -> int:
    """Returns how many steps of a length may be taken before the batch can change.

    It changes when a request finishes, when one that arrives can join, when a KV block is
    missing, and new knobs may come at the end of the interval.
    """
    limit = next_finish(server) - server.iteration
    if server.takes_runs == 0 or step_s <= 0.0 or limit <= 1:
        return 1
    now = server.now_s
    limit = min(limit, int((server.until_s - now) / step_s))
    waiting = server.queue_head < server.queue_tail or server.preempted > 0
    joinable = not waiting and server.decoding < server.max_seqs
    if joinable and server.concurrency == 0 and server.next_arrival < server.arrivals_end:
        until_next_s = times_of(server)[server.next_arrival] - now
        limit = min(limit, int(until_next_s / step_s) + 1)
    return int(max(1, limit))


@kernel
def blocks_for_run(server: Server, steps: int) -> tuple[int, int]:
    """Returns how many of so many steps the free KV blocks allow, and the blocks they take."""
    phases, phase = phases_of(server), server.phase
    free = free_blocks(server)
    needed = phases[phase]
    for taken in range(1, steps):
        phase = phase - 1 if phase > 0 else server.block_size - 1
        if needed + phases[phase] > free:
            return taken, needed
        needed += phases[phase]
    return steps, needed
