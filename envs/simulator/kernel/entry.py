"""What Python calls: one interval of one server, or of many in parallel."""

from __future__ import annotations

from numba import prange

from envs.compiled.jit import entry_point
from envs.compiled.records import Ints
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.ahead import fetch_later
from envs.simulator.kernel.interval import observe
from envs.simulator.kernel.latencies import count_unfinished
from envs.simulator.kernel.steps import run_until
from envs.simulator.kernel.views import server_at


@entry_point()
def advance_one(address: int) -> int:
    """Runs a server to the end of its interval and observes it.

    Args:
        address: Address of its row.

    Returns:
        ``DONE``, or ``NEEDS_REQUESTS``: give it requests and call again.
    """
    server = server_at(address)
    status = run_until(server)
    if status == at.DONE:
        observe(server)
    return status


@entry_point(parallel=True)
def advance_many(pending: Ints, servers: Ints, status: Ints) -> None:
    """Runs many servers in parallel; see :func:`advance_one`.

    Args:
        pending: Which servers.
        servers: Address of each server's row.
        status: What :func:`advance_one` returns of each is written here.
    """
    for position in prange(len(pending)):
        fetch_later(pending, position, servers)
        index = pending[position]
        status[index] = advance_one(servers[index])


@entry_point()
def unfinished(address: int, ttft: Ints) -> int:
    """Adds unfinished requests to an episode's latencies.

    Args:
        address: Address of the server's row.
        ttft: TTFT counts, to which requests without a first token are added with their age.

    Returns:
        Unfinished requests, arrived after the warm-up, that are already past an SLO.
    """
    return count_unfinished(server_at(address), ttft)
