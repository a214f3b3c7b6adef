"""Numbers of the running batch that follow from what the engine remembers."""

from __future__ import annotations

from envs.compiled.jit import inlined
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.layout import Engine
from envs.simulator.kernel.views import finishing_of, requests_of


@inlined
def blocks(tokens: int, block_size: int) -> int:
    """Returns the blocks that so many tokens take."""
    return (tokens + block_size - 1) // block_size


@inlined
def free_blocks(engine: Engine) -> int:
    """Returns the KV blocks not in use."""
    return engine.blocks - engine.blocks_used


@inlined
def next_finish(engine: Engine) -> int:
    """Returns the step at whose end the next request finishes."""
    if engine.decoding == 0:
        return at.NEVER
    return int(finishing_of(engine)[engine.first] >> at.SLOT_BITS)


@inlined
def slot_at(engine: Engine, position: int) -> int:
    """Returns the slot of a decoding request, by its place in the order of finishing."""
    entry = finishing_of(engine)[engine.first + position]
    return int(entry) & ((1 << at.SLOT_BITS) - 1)


@inlined
def generated(engine: Engine, slot: int) -> int:
    """Returns the tokens that a decoding request has produced so far."""
    requests = requests_of(engine)
    return int(requests[slot].output_tokens - (requests[slot].finish_at - engine.iteration))
