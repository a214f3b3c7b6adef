"""A server's row seen as a record and lists."""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from typing import Any

from numba.np.numpy_support import carray

from envs.compiled.jit import inlined
from envs.compiled.records import (
    WORD,
    Floats,
    Ints,
    address_of,
    float_table_at,
    int_table_at,
    ints_at,
    pointer_to,
)
from envs.compiled.telemetry_row import telemetry_at
from envs.latency import LATENCY_BUCKETS
from envs.simulator.kernel.layout import (
    ARRIVAL,
    ENGINE,
    KNOWN,
    REQUEST,
    SAMPLES,
    SERVER,
    Arrival,
    Engine,
    Known,
    Request,
    Server,
)
from envs.simulator.step_layout import STEP_MODEL, StepModel

_server, _engine = pointer_to(SERVER), pointer_to(ENGINE)
_request, _arrival = pointer_to(REQUEST), pointer_to(ARRIVAL)
_model, _known = pointer_to(STEP_MODEL), pointer_to(KNOWN)
ENGINE_BYTES = ENGINE.itemsize


@inlined
def server_at(address: int) -> Server:
    """Returns the server whose row begins at an address."""
    server: Server = carray(_server(address), (1,), SERVER)[0]
    return server


@inlined
def engine_at(server: Server, index: int) -> Engine:
    """Returns an engine of a server."""
    address = address_of(server) + server.engines_offset + index * ENGINE_BYTES
    engine: Engine = carray(_engine(address), (1,), ENGINE)[0]
    return engine


@inlined
def requests_of(engine: Engine) -> Sequence[Request]:
    """Returns the admitted requests by slot, ``capacity`` of them."""
    address = address_of(engine) + engine.requests_offset
    table: Any = carray(_request(address), (engine.capacity,), REQUEST)
    requests: Sequence[Request] = table
    return requests


@inlined
def finishing_of(engine: Engine) -> Ints:
    """Returns the list of decoding requests, sorted by when they finish."""
    return ints_at(address_of(engine) + engine.finishing_offset, 2 * engine.capacity)


@inlined
def prefilling_of(engine: Engine) -> Ints:
    """Returns the slots of the requests whose prompt is not computed."""
    return ints_at(address_of(engine) + engine.prefilling_offset, engine.capacity)


@inlined
def preempted_of(engine: Engine) -> Ints:
    """Returns the slots of the preempted requests, the next to be admitted last."""
    return ints_at(address_of(engine) + engine.preempted_offset, engine.capacity)


@inlined
def free_of(engine: Engine) -> Ints:
    """Returns the free slots, the next to be taken last."""
    return ints_at(address_of(engine) + engine.free_offset, engine.capacity)


@inlined
def phases_of(engine: Engine) -> Ints:
    """Returns how many decoding requests need a block, by step modulo the block size."""
    return ints_at(address_of(engine) + engine.phases_offset, engine.block_size)


@inlined
def known_of(engine: Engine) -> Sequence[Known]:
    """Returns the full blocks that can be found again, by number."""
    address = address_of(engine) + engine.known_offset
    table: Any = carray(_known(address), (engine.blocks,), KNOWN)
    known: Sequence[Known] = table
    return known


@inlined
def buckets_of(engine: Engine) -> Ints:
    """Returns the first block, counted from 1, of each list of known ones; 0 where it is empty."""
    return ints_at(address_of(engine) + engine.buckets_offset, engine.num_buckets)


@inlined
def held_of(engine: Engine, slot: int) -> Ints:
    """Returns the known blocks that the request in a slot uses, in order."""
    room = engine.held_room
    return ints_at(address_of(engine) + engine.held_offset + slot * room * WORD, room)


@inlined
def text_ids_of(server: Server) -> Ints:
    """Returns the ids of the parts of recorded prompts, as far as a first id can reach."""
    return ints_at(server.text_ids_at, server.num_text_ids)


@inlined
def arrivals_of(server: Server) -> MutableSequence[Arrival]:
    """Returns queued and coming requests in order of arrival, as far as ``arrivals_end``."""
    table: Any = carray(_arrival(server.arrivals_at), (server.arrivals_end,), ARRIVAL)
    arrivals: MutableSequence[Arrival] = table
    return arrivals


@inlined
def samples_of(server: Server) -> Floats:
    """Returns the interval's latency samples, shape ``(3, SAMPLES)``."""
    return float_table_at(address_of(server) + server.samples_offset, 3, SAMPLES)


@inlined
def totals_of(server: Server) -> Ints:
    """Returns the episode's latency counts, shape ``(3, LATENCY_BUCKETS)``."""
    return int_table_at(address_of(server) + server.totals_offset, 3, LATENCY_BUCKETS)


@inlined
def model_of(server: Server) -> StepModel:
    """Returns the server's step model."""
    model: StepModel = carray(_model(server.model_at), (1,), STEP_MODEL)[0]
    return model


@inlined
def telemetry_of(server: Server) -> Any:
    """Returns the record that the telemetry is written to, one float for each numeric field."""
    return telemetry_at(server.telemetry_at)
