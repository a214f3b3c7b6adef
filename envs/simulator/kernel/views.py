"""A server's row seen as a record and lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba.np.numpy_support import carray

from envs.compiled.jit import inlined
from envs.compiled.records import (
    Floats,
    Ints,
    address_of,
    float_table_at,
    floats_at,
    int_table_at,
    ints_at,
    pointer_to,
)
from envs.compiled.telemetry_row import telemetry_at
from envs.latency import LATENCY_BUCKETS
from envs.simulator.kernel.layout import REQUEST, SAMPLES, SERVER, Request, Server
from envs.simulator.step_layout import STEP_MODEL, StepModel

_server, _request = pointer_to(SERVER), pointer_to(REQUEST)
_model = pointer_to(STEP_MODEL)


@inlined
def server_at(address: int) -> Server:
    """Returns the server whose row begins at an address."""
    server: Server = carray(_server(address), (1,), SERVER)[0]
    return server


@inlined
def requests_of(server: Server) -> Sequence[Request]:
    """Returns the admitted requests by slot, ``capacity`` of them."""
    address = address_of(server) + server.requests_offset
    table: Any = carray(_request(address), (server.capacity,), REQUEST)
    requests: Sequence[Request] = table
    return requests


@inlined
def finishing_of(server: Server) -> Ints:
    """Returns the list of decoding requests, sorted by when they finish."""
    return ints_at(address_of(server) + server.finishing_offset, 2 * server.capacity)


@inlined
def prefilling_of(server: Server) -> Ints:
    """Returns the slots of the requests whose prompt is not computed."""
    return ints_at(address_of(server) + server.prefilling_offset, server.capacity)


@inlined
def preempted_of(server: Server) -> Ints:
    """Returns the slots of the preempted requests, the next to be admitted last."""
    return ints_at(address_of(server) + server.preempted_offset, server.capacity)


@inlined
def free_of(server: Server) -> Ints:
    """Returns the free slots, the next to be taken last."""
    return ints_at(address_of(server) + server.free_offset, server.capacity)


@inlined
def phases_of(server: Server) -> Ints:
    """Returns how many decoding requests need a block, by step modulo the block size."""
    return ints_at(address_of(server) + server.phases_offset, server.block_size)


@inlined
def times_of(server: Server) -> Floats:
    """Returns the arrival times of queued and coming requests, as far as ``arrivals_end``."""
    return floats_at(server.times_at, server.arrivals_end)


@inlined
def lengths_of(server: Server) -> Ints:
    """Returns prompt and output lengths of the same requests, shape ``(arrivals_end, 2)``."""
    return int_table_at(server.lengths_at, server.arrivals_end, 2)


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
