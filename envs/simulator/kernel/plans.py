"""Copies of servers that try plans: a copy costs one pass over memory, a plan one call."""

from __future__ import annotations

from numba import prange

from envs.compiled.jit import entry_point
from envs.compiled.records import Floats, Ints, floats_at
from envs.simulator.kernel.copying import copy_row
from envs.simulator.kernel.entry import advance_one
from envs.simulator.kernel.views import server_at
from envs.telemetry import NUM_TELEMETRY


@entry_point(parallel=True)
def fork(sources: Ints, targets: Ints, end: int) -> None:
    """Copies the state of servers over that of others, which then share their physics.

    A copy has requests and telemetry of its own, counts no latencies over its episode and takes no
    requests but those it is given.

    Args:
        sources: Address of the row to be copied, for each target.
        targets: Address of each row that is written.
        end: Bytes of a row that count between two intervals.
    """
    for position in prange(len(targets)):
        source, server = server_at(sources[position]), server_at(targets[position])
        copy_row(sources[position], targets[position], end)
        server.model_at, server.text_ids_at = source.model_at, source.text_ids_at
        server.totals_offset = 0
        server.exhausted = 1


@entry_point(parallel=True)
def run_plans(
    servers: Ints, knobs: Floats, interval_s: float, columns: Ints, observed: Floats
) -> None:
    """Lets every server follow a plan of its own, interval by interval.

    Args:
        servers: Address of each server's row; a server knows all its requests.
        knobs: Knobs of each server in each interval, shape ``(servers, intervals, 3)``.
        interval_s: Length of an interval in seconds.
        columns: Columns of the telemetry to be noted.
        observed: Where they are noted, shape ``(servers, intervals, len(columns))``.
    """
    for position in prange(len(servers)):
        server = server_at(servers[position])
        telemetry = floats_at(server.telemetry_at, NUM_TELEMETRY)
        for interval in range(knobs.shape[1]):
            server.requested.power_cap_w = knobs[position, interval, 0]
            server.requested.max_num_seqs = knobs[position, interval, 1]
            server.requested.sm_clock_mhz = knobs[position, interval, 2]
            server.until_s += interval_s
            advance_one(servers[position])
            for place in range(len(columns)):
                observed[position, interval, place] = telemetry[columns[place]]
