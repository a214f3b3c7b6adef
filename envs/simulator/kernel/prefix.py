"""Prefix caching as vLLM does it: full KV blocks are found again by the text that ends with them.

A block that is full is *known* by what it holds: the number of a text and the block's place in it
(:func:`text_of`). A request that is admitted takes the known blocks that its text begins with from
others, all but its last token at most, and computes the rest. A block counts its users; without
any it is *idle*: free to be taken, but known until then. Blocks are taken where nothing is known of
them first, and then the idle one that was left longest ago; of one request, the last block first.

Blocks that are not full are only counted. So is everything where caching is off.
"""

from __future__ import annotations

from envs.compiled.jit import inlined, kernel
from envs.simulator.kernel.batch_numbers import blocks, generated, slot_at
from envs.simulator.kernel.layout import Engine, Server
from envs.simulator.kernel.views import (
    buckets_of,
    held_of,
    known_of,
    phases_of,
    requests_of,
    text_ids_of,
)

_SPREAD = 2_654_435
"""Odd, and small enough that its product with a text's number fits a word."""
NONE = -1


@kernel
def text_of(
    server: Server, text: int, first_id: int, id_shift: int, prompt: int, place: int
) -> int:
    """Returns the number of the text that ends with a block of a request.

    Args:
        server: The server.
        text: The request's own text, in which it is alone or its session is.
        first_id: Where the ids of its prompt's parts begin; negative where there are none.
        id_shift: What is added to them.
        prompt: Length of its prompt.
        place: The block's place, from 0.
    """
    end = (place + 1) * server.block_size
    if end <= min(server.shared_tokens, prompt):
        return 0
    if first_id >= 0 and end <= prompt:
        part = int((end - 1) / server.text_id_tokens)
        return int(2 * (text_ids_of(server)[first_id + part] + id_shift) + 2)
    return 2 * text + 1


@inlined
def _bucket(engine: Engine, text: int, place: int) -> int:
    return int((text * _SPREAD + place) & (engine.num_buckets - 1))


@kernel
def _find(engine: Engine, text: int, place: int) -> int:
    """Returns the block that has been known longest by a text and place, or ``NONE``."""
    known = known_of(engine)
    block = buckets_of(engine)[_bucket(engine, text, place)] - 1
    while block != NONE and (known[block].text != text or known[block].place != place):
        block = known[block].next
    return int(block)


@kernel
def _learn(engine: Engine, text: int, place: int) -> int:
    """Makes a block in use known; returns its number."""
    known, buckets = known_of(engine), buckets_of(engine)
    block = engine.unused_block - 1
    if block != NONE:
        engine.unused_block = known[block].next + 1
    else:
        block = engine.blocks_known
        engine.blocks_known += 1
    known[block].text, known[block].place = text, place
    known[block].users, known[block].next = 1, NONE
    bucket = _bucket(engine, text, place)
    last = buckets[bucket] - 1
    if last == NONE:
        buckets[bucket] = block + 1
        return int(block)
    while known[last].next != NONE:
        last = known[last].next
    known[last].next = block
    return int(block)


@kernel
def _forget_block(engine: Engine, block: int) -> None:
    """Makes an idle block unknown."""
    known, buckets = known_of(engine), buckets_of(engine)
    bucket = _bucket(engine, known[block].text, known[block].place)
    before = buckets[bucket] - 1
    if before == block:
        buckets[bucket] = known[block].next + 1
    else:
        while known[before].next != block:
            before = known[before].next
        known[before].next = known[block].next
    known[block].next = engine.unused_block - 1
    engine.unused_block = block + 1


@kernel
def _leave_idle(engine: Engine, block: int) -> None:
    """Puts a block that nobody uses behind the other idle ones."""
    known = known_of(engine)
    known[block].older, known[block].newer = engine.newest_idle - 1, NONE
    if engine.newest_idle > 0:
        known[engine.newest_idle - 1].newer = block
    else:
        engine.oldest_idle = block + 1
    engine.newest_idle = block + 1
    engine.blocks_idle += 1


@kernel
def _take_idle(engine: Engine, block: int) -> None:
    """Takes a block out of the idle ones."""
    known = known_of(engine)
    older, newer = known[block].older, known[block].newer
    if older == NONE:
        engine.oldest_idle = newer + 1
    else:
        known[older].newer = newer
    if newer == NONE:
        engine.newest_idle = older + 1
    else:
        known[newer].older = older
    engine.blocks_idle -= 1


@kernel
def make_unknown(engine: Engine, count: int) -> None:
    """Sees to it that so many free blocks are unknown, which there is room for."""
    while engine.blocks - engine.blocks_used - engine.blocks_idle < count:
        block = engine.oldest_idle - 1
        _take_idle(engine, block)
        _forget_block(engine, block)


@kernel
def match(
    server: Server, engine: Engine, slot: int, text: int, first_id: int, id_shift: int,
    prompt: int, tokens: int,
) -> tuple[int, int]:  # fmt: skip
    """Looks for the known blocks that a request begins with, and notes them in its slot.

    Args:
        server: The server.
        engine: The engine that is to admit it.
        slot: The slot that it has or will get.
        text: See :func:`text_of`, as the next three.
        first_id: Where the ids of its prompt's parts begin.
        id_shift: What is added to them.
        prompt: Length of its prompt.
        tokens: Tokens that it has to compute, of which one at least is left.

    Returns:
        How many there are, and how many of them are idle.
    """
    known, held = known_of(engine), held_of(engine, slot)
    found, idle = 0, 0
    while found < (tokens - 1) // engine.block_size:
        name = text_of(server, text, first_id, id_shift, prompt, found)
        block = _find(engine, name, found)
        if block == NONE:
            break
        held[found] = block
        idle += known[block].users == 0
        found += 1
    return found, idle


@kernel
def take_known(engine: Engine, slot: int, found: int) -> None:
    """Has a request use the blocks that :func:`match` found for it."""
    known, held = known_of(engine), held_of(engine, slot)
    for place in range(found):
        block = held[place]
        if known[block].users == 0:
            _take_idle(engine, block)
            engine.blocks_used += 1
        known[block].users += 1
    requests_of(engine)[slot].held_blocks = found


@kernel
def learn_blocks(server: Server, engine: Engine, slot: int, tokens: int) -> None:
    """Makes the full blocks of a request known that so many tokens fill."""
    requests, held = requests_of(engine), held_of(engine, slot)
    place, full = requests[slot].held_blocks, tokens // engine.block_size
    while place < full:
        name = text_of(
            server, requests[slot].text, requests[slot].first_id, requests[slot].id_shift,
            requests[slot].prompt_tokens, place,
        )  # fmt: skip
        held[place] = _learn(engine, name, place)
        place += 1
    requests[slot].held_blocks = place


@kernel
def learn_decoded(server: Server, engine: Engine, steps: int) -> None:
    """Makes the blocks known that so many steps of the decoding requests fill."""
    requests, size = requests_of(engine), engine.block_size
    if steps == 1:
        # A request whose block the step fills needs another one in the step after it.
        coming = engine.phase - 1 if engine.phase > 0 else size - 1
        if phases_of(engine)[coming] == 0:
            return
    for position in range(engine.decoding):
        slot = slot_at(engine, position)
        cached = requests[slot].prompt_tokens + generated(engine, slot) - 1
        learn_blocks(server, engine, slot, cached + steps)


@kernel
def give_back(engine: Engine, slot: int, tokens: int) -> None:
    """Gives the blocks of a request with so many tokens back, the last one first."""
    requests, known, held = requests_of(engine), known_of(engine), held_of(engine, slot)
    count = requests[slot].held_blocks
    engine.blocks_used -= blocks(tokens, engine.block_size) - count
    for index in range(count):
        block = held[count - 1 - index]
        known[block].users -= 1
        if known[block].users == 0:
            engine.blocks_used -= 1
            _leave_idle(engine, block)
    requests[slot].held_blocks = 0
