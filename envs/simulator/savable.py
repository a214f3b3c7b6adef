"""Fleets whose servers' states can be saved, restored and copied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.errors import WorkloadError
from envs.simulator.fleet import UNBORN, Fleet
from envs.simulator.kernel.copying import restore_rows
from envs.simulator.snapshot import Snapshot
from envs.simulator.state import IntArray


class SavableFleet(Fleet):
    """A fleet that saves its servers' states and goes back to them; see :class:`Snapshot`."""

    def snapshot(self, index: int = 0) -> Snapshot:
        """Saves the state of server ``index``, between two intervals.

        Raises:
            WorkloadError: It was never reset, or another thread is at it.
        """
        if index in self._unborn:
            raise WorkloadError(UNBORN)
        states, requests = self._states, self._requests[index]
        self._enter()
        try:
            snapshot = Snapshot(
                row=states.row(index).copy(),
                live=states.live_bytes,
                form=states.form,
                telemetry=self.telemetry[index].copy(),
                requests=requests.save(self._servers[index]),
                spec=self._specs[index],
                model=self._models[index],
                fractions=self.power_fractions[index].copy(),
                totals_bytes=states.totals[index].nbytes,
            )
            requests.origin = snapshot
        finally:
            self._in_use.release()
        return snapshot

    def restore(self, snapshot: Snapshot, which: Sequence[int] | IntArray | None = None) -> None:
        """Sets servers to a saved state.

        Args:
            snapshot: The state; of a server of this fleet or of one like it.
            which: Their indices; ``None`` for all.

        Raises:
            ValueError: The state is of a server with other lists, or without the latencies that
                this fleet counts.
            WorkloadError: Another thread is at the fleet.
        """
        places = self._all if which is None else np.asarray(which, dtype=np.int64)
        known = np.ones(len(places), dtype=np.int64)
        self._enter()
        try:
            for position, index in enumerate(places.tolist()):
                if self._requests[index].origin is not snapshot:
                    self._take_over(snapshot, index)
                    known[position] = 0
            restore_rows(snapshot.source, self._states.addresses[places], known)
        finally:
            self._in_use.release()

    def _take_over(self, snapshot: Snapshot, index: int) -> None:
        """Gives a server all that a row does not hold."""
        if snapshot.form != self._states.form or (self._latency and not snapshot.totals_bytes):
            raise ValueError("the state is that of a server of another size, or without latencies")
        server, requests = self._servers[index], self._requests[index]
        requests.make_room(snapshot.requests, server)
        requests.origin = snapshot
        self._specs[index], self._models[index] = snapshot.spec, snapshot.model
        self._share(index)
        server.totals_offset = self._states.totals_offset
        self.power_fractions[index] = snapshot.fractions
        self._unborn.discard(index)

    def fork(self, index: int = 0, count: int = 1, *, latency: bool = False) -> SavableFleet:
        """Returns a fleet of copies of server ``index``, each of which goes on by itself.

        Args:
            index: Which server.
            count: How many copies.
            latency: Whether they go on counting latencies.
        """
        servers = [self.server_specs[index]] * count
        fork = SavableFleet(servers, randomize=self._randomize, latency=latency, chunk=self._chunk)
        fork.restore(self.snapshot(index))
        return fork
