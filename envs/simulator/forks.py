"""Forks: copies of simulated servers that try out what the servers could do next."""

from __future__ import annotations

import numpy as np

from envs.compiled.jit import threads_for
from envs.compiled.rows import addresses_of_rows
from envs.simulator.fleet import Fleet
from envs.simulator.kernel import plans
from envs.simulator.kernel.layout import ARRIVAL
from envs.simulator.requests import write_arrivals
from envs.simulator.state import FloatArray, IntArray
from envs.workloads.base import RequestChunk


class Forks:
    """Copies of every server of a fleet, for plans that are tried and thrown away.

    The servers themselves notice nothing, but that requests are taken from their streams sooner.
    Copies share physics with the server they are copied from, and have requests of their own.

    Args:
        fleet: The servers; all of them have to be reset before they are forked.
        copies: Copies of each server.
        servers: How many servers are copied at a time at most; ``None`` for all of them.

    Attributes:
        copies: Copies of each server.
    """

    def __init__(self, fleet: Fleet, copies: int, servers: int | None = None) -> None:
        self._fleet = fleet
        self.copies = copies
        self._which = np.arange(fleet.num_envs if servers is None else servers)
        self._states = fleet.states.like(len(self._which) * copies)
        self._rows = len(self._which) * copies
        self._live = fleet.states.live_bytes
        self._room = 0

    def fork(
        self,
        ahead_s: float | None,
        extra: list[RequestChunk] | None = None,
        which: IntArray | None = None,
    ) -> None:
        """Copies the servers as they are now.

        Args:
            ahead_s: Time in seconds that the copies will run for; requests that arrive within
                it are copied. ``None``: no request that is yet to come.
            extra: Requests for each copy, those of a server's copies in a row; they arrive after
                those that the copied server knows.
            which: Indices of the servers, no more than are copied at a time; ``None`` for those
                of the call before, at first the first ones.
        """
        fleet, copies = self._fleet, self.copies
        if which is not None:
            self._which = which
            self._rows = len(which) * copies
        own = self._which.tolist()
        ends = [fleet.requests[i].reach(fleet.servers[i], ahead_s) for i in own]
        most = max((len(chunk.arrival_time_s) for chunk in extra), default=0) if extra else 0
        self._make_room(max(ends) + most)
        sources = np.repeat(fleet.addresses[self._which], copies)
        with threads_for(len(sources)):
            plans.fork(sources, self._states.addresses[: self._rows], self._live)
        servers = self._states.servers
        for place, (index, end) in enumerate(zip(own, ends, strict=True)):
            rows = slice(place * copies, (place + 1) * copies)
            first = int(fleet.servers[index].queue_head)
            fleet.requests[index].copy_to(self._arrivals[rows], first, end)
            servers.arrivals_end[rows] = end
        if extra is not None:
            self._append(extra)

    def _append(self, extra: list[RequestChunk]) -> None:
        """Gives each copy further requests."""
        servers = self._states.servers
        for row, chunk in enumerate(extra):
            begin = int(servers.arrivals_end[row])
            end = begin + len(chunk.arrival_time_s)
            write_arrivals(self._arrivals[row, begin:end], chunk)
            servers.arrivals_end[row] = end

    def _make_room(self, requests: int) -> None:
        """Sees to memory for so many requests of each copy."""
        if requests <= self._room:
            return
        self._room = 2 * requests
        self._arrivals = np.zeros((len(self._states.servers), self._room), dtype=ARRIVAL)
        self._states.servers.arrivals_at = addresses_of_rows(self._arrivals)

    def set_slos(self, ttft_slo_s: FloatArray | float, tpot_slo_s: FloatArray | float) -> None:
        """Sets the latency SLOs by which the copies' requests are evaluated (seconds).

        Args:
            ttft_slo_s: Time to first token: a number, or one for each copy.
            tpot_slo_s: Time per output token, likewise.
        """
        servers = self._states.servers[: self._rows]
        servers.ttft_slo_s = ttft_slo_s
        servers.tpot_slo_s = tpot_slo_s

    def run(self, knobs: FloatArray, interval_s: float, columns: IntArray) -> FloatArray:
        """Lets every copy follow its plan.

        Args:
            knobs: Knobs in each interval, shape ``(servers, copies, intervals, 3)``: power cap
                in watts, batch limit, clock in MHz (infinite: free).
            interval_s: Length of an interval in seconds.
            columns: Columns of the telemetry to return (:data:`envs.telemetry.COLUMN`).

        Returns:
            These columns, shape ``(servers, copies, intervals, len(columns))``.
        """
        rows, intervals = self._rows, knobs.shape[2]
        flat = np.ascontiguousarray(knobs, dtype=np.float64).reshape(rows, intervals, 3)
        observed = np.empty((rows, intervals, len(columns)))
        with threads_for(rows):
            plans.run_plans(self._states.addresses[:rows], flat, interval_s, columns, observed)
        return observed.reshape(len(self._which), self.copies, intervals, len(columns))
