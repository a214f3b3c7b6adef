"""What the next engine step computes: decoding first, then prompts, then admissions."""

from __future__ import annotations

from envs.compiled.jit import inlined, kernel
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.batch import preempt_newest, take_slot
from envs.simulator.kernel.batch_numbers import blocks, free_blocks, next_finish
from envs.simulator.kernel.layout import Engine, Server
from envs.simulator.kernel.prefix import (
    learn_blocks,
    learn_decoded,
    make_unknown,
    match,
    take_known,
)
from envs.simulator.kernel.queue import first_in_queue, leave_queue
from envs.simulator.kernel.views import (
    arrivals_of,
    free_of,
    phases_of,
    preempted_of,
    prefilling_of,
    requests_of,
)


@inlined
def blocks_for_step(engine: Engine) -> int:
    """Returns the new KV blocks that the decoding requests need in the next step."""
    return int(phases_of(engine)[engine.phase])


@inlined
def make_room(server: Server, engine: Engine) -> bool:
    """Preempts until the decoding requests' blocks are there; returns whether it had to."""
    preempted = False
    while blocks_for_step(engine) > free_blocks(engine):
        preempt_newest(server, engine)
        preempted = True
    return preempted


@kernel
def plan_step(server: Server, engine: Engine) -> bool:
    """Decides what an engine's next step computes; returns False when that is nothing."""
    preempted = make_room(server, engine)
    decoding, needed = engine.decoding, blocks_for_step(engine)
    take_blocks(engine, needed)
    if engine.caches:
        learn_decoded(server, engine, 1)
    budget = server.max_step_tokens - decoding
    tokens, pairs = 0, 0.0
    if engine.prefilling > 0 and budget > 0:
        tokens, pairs = continue_prompt(server, engine, budget)
        if tokens < 0:
            preempted, tokens = True, 0
    if not preempted:
        more, more_pairs = admit(server, engine, budget - tokens)
        tokens, pairs = tokens + more, pairs + more_pairs
    engine.step_tokens, engine.step_pairs = tokens, pairs
    engine.step_limit = at.NEVER
    if tokens > 0:
        return True
    engine.blocks_used -= needed  # counted when it is known how many steps are taken at once
    if preempted or engine.prefilling > 0:
        engine.step_limit = 1
    return decoding > 0


@kernel
def continue_prompt(server: Server, engine: Engine, budget: int) -> tuple[int, float]:
    """Schedules a chunk of the prompt that is under way.

    Returns:
        Tokens and pairs of tokens scheduled; -1 tokens when the request was preempted for
        lack of blocks.
    """
    requests = requests_of(engine)
    size = engine.block_size
    slot = prefilling_of(engine)[0]
    done = requests[slot].computed_tokens
    goal = requests[slot].prompt_tokens + requests[slot].generated_tokens
    chunk = min(goal - done, budget)
    more = blocks(done + chunk, size) - blocks(done, size)
    if more > free_blocks(engine):
        preempt_newest(server, engine)
        return -1, 0.0
    requests[slot].computed_tokens += chunk
    take_blocks(engine, more)
    if engine.caches:
        learn_blocks(server, engine, slot, done + chunk)
    return chunk, chunk * (done + 0.5 * (chunk + 1.0))


@kernel
def admit(server: Server, engine: Engine, budget: int) -> tuple[int, float]:
    """Admits waiting requests; returns prompt tokens and pairs of tokens scheduled."""
    arrivals, size = arrivals_of(server), engine.block_size
    requests, prefilling = requests_of(engine), prefilling_of(engine)
    tokens, pairs = 0, 0.0
    while budget > tokens and engine.decoding + engine.prefilling < server.max_seqs:
        slot = -1
        if engine.preempted > 0:
            slot = preempted_of(engine)[engine.preempted - 1]
            goal = requests[slot].prompt_tokens + requests[slot].generated_tokens
        elif engine.queued > 0:
            goal = arrivals[first_in_queue(server, engine)].prompt_tokens
        else:
            break
        found, idle = 0, 0
        if engine.caches:
            found, idle = _match(server, engine, slot, goal)
        # vLLM admits a request only if all of it fits, though it allocates the first chunk alone.
        if blocks(goal, size) - found + idle > free_blocks(engine):
            break
        if slot >= 0:
            engine.preempted -= 1
        else:
            slot = _enter(server, engine)
            if engine.caches:
                server.prefix_queries += goal
                server.prefix_hits += found * size
        done = found * size
        chunk = min(goal - done, budget - tokens)
        requests[slot].computed_tokens = done + chunk
        prefilling[engine.prefilling] = slot
        engine.prefilling += 1
        if engine.caches:
            _take_known(engine, slot, found)
        take_blocks(engine, blocks(done + chunk, size) - found)
        if engine.caches:
            learn_blocks(server, engine, slot, done + chunk)
        tokens += chunk
        pairs += chunk * (done + 0.5 * (chunk + 1.0))
    return tokens, pairs


@inlined
def take_blocks(engine: Engine, count: int) -> None:
    """Takes free blocks, of which there are enough."""
    if engine.caches:
        make_unknown(engine, count)
    engine.blocks_used += count


@kernel
def _match(server: Server, engine: Engine, slot: int, goal: int) -> tuple[int, int]:
    """Looks for known blocks of the next request to be admitted, see :func:`prefix.match`.

    Args:
        server: The server.
        engine: The engine.
        slot: Where it is, if it was preempted; negative for the first of the queue.
        goal: Tokens to compute.
    """
    if slot >= 0:
        kept = requests_of(engine)[slot]
        return match(
            server, engine, slot, kept.text, kept.first_id, kept.id_shift,
            kept.prompt_tokens, goal,
        )  # fmt: skip
    coming = arrivals_of(server)[engine.queue_head]
    slot = free_of(engine)[engine.free - 1]
    return match(
        server, engine, slot, coming.text, coming.first_id, coming.id_shift,
        coming.prompt_tokens, goal,
    )  # fmt: skip


@inlined
def _take_known(engine: Engine, slot: int, found: int) -> None:
    """Has a request that is admitted use known blocks; their tokens are not computed again."""
    requests = requests_of(engine)
    take_known(engine, slot, found)
    known = min(found * engine.block_size, requests[slot].prompt_tokens)
    requests[slot].counted_tokens = max(requests[slot].counted_tokens, known)


@inlined
def _enter(server: Server, engine: Engine) -> int:
    """Gives the first request of the queue a slot."""
    arrivals, requests = arrivals_of(server), requests_of(engine)
    slot, head = take_slot(engine), engine.queue_head
    requests[slot].prompt_tokens = arrivals[head].prompt_tokens
    requests[slot].output_tokens = arrivals[head].output_tokens
    requests[slot].generated_tokens = 0
    requests[slot].counted_tokens = 0
    requests[slot].order = engine.admitted
    requests[slot].arrived_s = arrivals[head].arrived_s
    requests[slot].first_token_s = -1.0
    requests[slot].text = arrivals[head].text
    requests[slot].first_id = arrivals[head].first_id
    requests[slot].id_shift = arrivals[head].id_shift
    requests[slot].held_blocks = 0
    engine.admitted += 1
    leave_queue(server, engine)
    return slot


@kernel
def steps_until_change(server: Server, engine: Engine, step_s: float) -> int:
    """Returns how many steps of a length may be taken before the batch can change.

    It changes when a request finishes, when one that arrives can join, when a KV block is
    missing, and new knobs may come at the end of the interval.
    """
    limit = next_finish(engine) - engine.iteration
    if server.takes_runs == 0 or step_s <= 0.0 or limit <= 1:
        return 1
    now = server.now_s
    limit = min(limit, int((server.until_s - now) / step_s))
    waiting = engine.queued > 0 or engine.preempted > 0
    joinable = not waiting and engine.decoding < server.max_seqs
    if joinable and server.concurrency == 0 and server.next_arrival < server.arrivals_end:
        until_next_s = arrivals_of(server)[server.next_arrival].arrived_s - now
        limit = min(limit, int(until_next_s / step_s) + 1)
    return int(max(1, limit))


@kernel
def blocks_for_run(engine: Engine, steps: int) -> tuple[int, int]:
    """Returns how many of so many steps the free KV blocks allow, and the blocks they take."""
    phases, phase = phases_of(engine), engine.phase
    free = free_blocks(engine)
    needed = phases[phase]
    for taken in range(1, steps):
        phase = phase - 1 if phase > 0 else engine.block_size - 1
        if needed + phases[phase] > free:
            return taken, needed
        needed += phases[phase]
    return steps, needed
