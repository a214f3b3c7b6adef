"""One control interval of many simulated servers: knobs, simulation, evaluation, observation."""

from __future__ import annotations

from numba import prange

from envs.compiled.control import LOOP, follow, loop_at
from envs.compiled.jit import entry_point
from envs.compiled.prefetch import fetch_bytes
from envs.compiled.records import Ints
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.ahead import ROWS_AHEAD, fetch_later
from envs.simulator.kernel.entry import advance_one
from envs.simulator.kernel.views import server_at

_LOOP = LOOP.itemsize


@entry_point(parallel=True)
def step_many(pending: Ints, loops: Ints, servers: Ints, status: Ints) -> None:
    """Lets one interval pass on many servers in parallel.

    Args:
        pending: Which servers.
        loops: Address of each server's row in the control loop.
        servers: Address of each server's row in the engine.
        status: Of each server, what :func:`advance_one` returns is written here.
    """
    for position in prange(len(pending)):
        fetch_later(pending, position, servers)
        if position + ROWS_AHEAD < len(pending):
            fetch_bytes(loops[pending[position + ROWS_AHEAD]], _LOOP)
        index = pending[position]
        loop, server = loop_at(loops[index]), server_at(servers[index])
        server.requested = loop.requested
        status[index] = advance_one(servers[index])
        if status[index] == at.DONE:
            follow(loop)
            server.ttft_slo_s = loop.coming.ttft_slo_s
            server.tpot_slo_s = loop.coming.tpot_slo_s
