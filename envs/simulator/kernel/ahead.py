"""What a server's next interval will look at, fetched while others are stepped.

In two goes: where the lists of a server lie, and which of their entries come next, is written in
its row, which has to be there first.
"""

from __future__ import annotations

from envs.compiled.jit import inlined
from envs.compiled.prefetch import LINE, fetch, fetch_bytes
from envs.compiled.records import WORD, Ints, address_of
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.layout import Engine, Server
from envs.simulator.kernel.views import engine_at, finishing_of, server_at
from envs.telemetry import NUM_TELEMETRY

ROWS_AHEAD = 2
"""Servers that are stepped while the row of another one is under way."""
_RECORDS = at.SERVER.itemsize + at.ENGINE.itemsize + LINE
_ARRIVAL, _REQUEST = at.ARRIVAL.itemsize, at.REQUEST.itemsize
_COMING = 8
"""Requests that come, are admitted and finish in an interval, as a rule."""


@inlined
def fetch_later(pending: Ints, position: int, servers: Ints) -> None:
    """Has some of the memory fetched of the servers that are stepped after the one at a position.

    Args:
        pending: Which servers are stepped, in order.
        position: Place in this list.
        servers: Address of each server's row.
    """
    if position + ROWS_AHEAD < len(pending):
        fetch_bytes(servers[pending[position + ROWS_AHEAD]], _RECORDS)
    if position + 1 < len(pending):
        _fetch_lists(servers[pending[position + 1]])


@inlined
def _fetch_lists(address: int) -> None:
    """Has what lies where a server's records say fetched: requests that come, wait and finish."""
    server = server_at(address)
    _fetch_arrivals(server, server.next_arrival)
    _fetch_arrivals(server, server.queue_head)
    for kind in range(3):
        fetch_bytes(address + server.samples_offset + kind * at.SAMPLES * WORD, _COMING * WORD)
    fetch_bytes(server.telemetry_at, NUM_TELEMETRY * WORD)
    _fetch_batch(engine_at(server, 0))


@inlined
def _fetch_arrivals(server: Server, place: int) -> None:
    """Has some requests from a place of the queue fetched."""
    fetch_bytes(server.arrivals_at + place * _ARRIVAL, _COMING * _ARRIVAL)


@inlined
def fetch_quantile(server: Server, q: float) -> None:
    """Has a request fetched that waits about as long as a quantile of those that wait."""
    waiting = server.queue_tail - server.queue_head
    fetch(server.arrivals_at + (server.queue_tail - int(q * waiting)) * _ARRIVAL)


@inlined
def _fetch_batch(engine: Engine) -> None:
    """Has the requests that finish next fetched; their slots are the next to be used, too."""
    finishing, requests_at = finishing_of(engine), address_of(engine) + engine.requests_offset
    for position in range(engine.first, engine.first + min(engine.decoding, _COMING)):
        slot = finishing[position] & ((1 << at.SLOT_BITS) - 1)
        fetch(requests_at + slot * _REQUEST)
        fetch(requests_at + slot * _REQUEST + LINE)
