"""A server's batch as an observer estimates it: requests that are placed where they are."""

from __future__ import annotations

from envs.compiled.jit import entry_point, kernel
from envs.compiled.records import Floats, Ints
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.batch import join, take_slot
from envs.simulator.kernel.batch_numbers import blocks, free_blocks
from envs.simulator.kernel.layout import Engine, Server
from envs.simulator.kernel.prefix import learn_blocks
from envs.simulator.kernel.schedule import take_blocks
from envs.simulator.kernel.views import engine_at, prefilling_of, requests_of, server_at


@entry_point()
def place_decoding(
    address: int, prompts: Ints, generated: Ints, outputs: Ints, arrived_s: Floats, first_s: Floats
) -> int:
    """Puts requests into a server's batch as if it had come to where they are.

    Its engines get them in turn.

    Args:
        address: Address of the server's row; nothing runs on it yet.
        prompts: Prompt tokens of each request.
        generated: Output tokens that it has, at least 1.
        outputs: Output tokens that it will have, more than that.
        arrived_s: When it came, on the server's clock.
        first_s: When it got its first token, at 0 or later.

    Returns:
        How many of them, from the first, there was room for.
    """
    server = server_at(address)
    for index in range(len(prompts)):
        engine = engine_at(server, index % server.replicas)
        cached = prompts[index] + generated[index] - 1
        slot = _place(server, engine, prompts[index], prompts[index], cached)
        if slot < 0:
            return index
        requests = requests_of(engine)
        requests[slot].output_tokens = outputs[index]
        requests[slot].generated_tokens = generated[index]
        requests[slot].arrived_s = arrived_s[index]
        requests[slot].first_token_s = first_s[index]
        requests[slot].finish_at = engine.iteration + outputs[index] - generated[index]
        join(engine, slot)
    return len(prompts)


@entry_point()
def place_prefilling(
    address: int, index: int, prompt: int, computed: int, output: int, arrived_s: float
) -> bool:
    """Puts a request into the batch whose prompt is partly computed.

    Args:
        address: Address of the server's row; nothing runs on it yet.
        index: Which engine gets it; it has no other such request.
        prompt: Prompt tokens.
        computed: How many of them are computed, fewer than all.
        output: Output tokens that it will have.
        arrived_s: When it came, on the server's clock.

    Returns:
        Whether there was room for it.
    """
    server = server_at(address)
    engine = engine_at(server, index)
    slot = _place(server, engine, prompt, computed, computed)
    if slot < 0:
        return False
    requests = requests_of(engine)
    requests[slot].output_tokens = output
    requests[slot].generated_tokens = 0
    requests[slot].arrived_s = arrived_s
    requests[slot].first_token_s = -1.0
    prefilling_of(engine)[0] = slot
    engine.prefilling = 1
    return True


@kernel
def _place(server: Server, engine: Engine, prompt: int, computed: int, cached: int) -> int:
    """Gives a request a slot and the blocks of its cached tokens.

    Args:
        server: The server.
        engine: The engine that gets it.
        prompt: Prompt tokens.
        computed: How many of them are computed.
        cached: Tokens in the KV cache, of prompt and answer.

    Returns:
        Its slot; -1 where there is no room for it.
    """
    needed = blocks(cached, engine.block_size)
    if engine.free == 0 or needed > free_blocks(engine):
        return -1
    requests, slot = requests_of(engine), take_slot(engine)
    requests[slot].prompt_tokens = prompt
    requests[slot].computed_tokens = computed
    requests[slot].counted_tokens = computed
    requests[slot].order = engine.admitted
    requests[slot].text = at.OWN_TEXTS + server.accepted
    requests[slot].first_id, requests[slot].id_shift = -1, 0
    requests[slot].held_blocks = 0
    server.accepted += 1
    engine.admitted += 1
    take_blocks(engine, needed)
    if engine.caches:
        learn_blocks(server, engine, slot, cached)
    return slot
