"""Saved states of servers, copied over those of others."""

from __future__ import annotations

from envs.compiled.jit import entry_point, inlined
from envs.compiled.records import WORD, Ints, ints_at
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.views import server_at

_OUTSIDE_AT = at.OUTSIDE_AT
_RECORD, _ARRIVAL = at.SERVER.itemsize, at.ARRIVAL.itemsize


@inlined
def _copy(source: int, target: int, begin: int, end: int) -> None:
    """Copies the bytes from ``begin`` to ``end`` behind one address behind another."""
    words = (end - begin) // WORD
    old, new = ints_at(source + begin, words), ints_at(target + begin, words)
    for word in range(words):
        new[word] = old[word]


@inlined
def copy_row(source: int, target: int, end: int) -> None:
    """Copies a server's row up to ``end`` over another one, which keeps what lies outside."""
    _copy(source, target, 0, _OUTSIDE_AT)
    _copy(source, target, _RECORD, end)


@entry_point()
def restore_rows(source: Ints, targets: Ints, known: Ints) -> None:
    """Copies one server, its requests and its telemetry over others.

    Args:
        source: Address of its row, bytes of a row that count between two intervals, distance and
            bytes of the counts of latencies (for those that count them), address and bytes of its
            telemetry, and where its list of requests would begin if it was as long as the row says.
        targets: Address of each other row.
        known: Of each, whether its requests are those of the source but for what it took of them.
    """
    saved = server_at(source[0])
    for index in range(len(targets)):
        server = server_at(targets[index])
        begin, end = saved.queue_head, saved.arrivals_end
        if known[index]:
            end = min(end, server.next_arrival)  # those behind are as they were
        totals_offset = server.totals_offset
        copy_row(source[0], targets[index], source[1])
        server.totals_offset = totals_offset
        if totals_offset != 0:
            _copy(source[0], targets[index], source[2], source[2] + source[3])
        _copy(source[4], server.telemetry_at, 0, source[5])
        _copy(source[6], server.arrivals_at, begin * _ARRIVAL, end * _ARRIVAL)
