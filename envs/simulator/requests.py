"""The requests that wait for or are yet to come to one simulated server."""

from __future__ import annotations

import numpy as np

from envs.simulator.kernel.layout import Server
from envs.workloads.base import RequestStream


class RequestBuffer:
    """Arrival times and lengths, in memory that grows with the queue.

    Args:
        chunk: Requests taken from the stream at a time.
    """

    def __init__(self, chunk: int) -> None:
        self._chunk = chunk
        self._stream: RequestStream | None = None
        self._allocate(2 * chunk)

    def restart(self, stream: RequestStream) -> None:
        """Begins an episode with a new stream; memory that a long queue took is given back."""
        self._stream = stream
        if len(self._times) > 8 * self._chunk:
            self._allocate(2 * self._chunk)

    def _allocate(self, requests: int) -> None:
        """Takes memory for so many requests."""
        self._times = np.zeros(requests)
        self._lengths = np.zeros((requests, 2), dtype=np.int64)

    def feed(self, server: Server) -> None:
        """Takes a chunk from the stream, behind what is left of those before.

        Args:
            server: Its record; notes where its requests are now.
        """
        assert self._stream is not None
        head, tail = int(server.queue_head), int(server.queue_tail)
        first, end = int(server.next_arrival), int(server.arrivals_end)
        chunk = self._stream.take(self._chunk)
        fresh = len(chunk.arrival_time_s)
        kept = tail - head
        pending = end - first
        if tail + pending + fresh > len(self._times):
            # Moving what waits is paid for by the room it makes: at least as much again.
            self._move_to_front(head, tail, first, end, fresh)
            head, tail, first = 0, kept, kept
        times, lengths = self._times, self._lengths
        start = tail + pending
        # What moves down within one array is copied on the way; NumPy sees to overlaps.
        times[tail:start] = times[first : first + pending]
        lengths[tail:start] = lengths[first : first + pending]
        times[start : start + fresh] = chunk.arrival_time_s
        lengths[start : start + fresh, 0] = chunk.prompt_tokens
        lengths[start : start + fresh, 1] = chunk.output_tokens
        server.queue_head, server.queue_tail = head, tail
        server.next_arrival, server.arrivals_end = tail, start + fresh
        server.exhausted = fresh == 0
        self.locate(server)

    def _move_to_front(self, head: int, tail: int, first: int, end: int, fresh: int) -> None:
        """Moves what waits, and behind it what is to come, to the start of the memory."""
        times, lengths = self._times, self._lengths
        kept, size = tail - head, tail - head + end - first
        if 2 * (size + fresh) > len(times):
            self._allocate(2 * (size + fresh))
        for old, new in ((times, self._times), (lengths, self._lengths)):
            new[:kept] = old[head:tail]
            new[kept:size] = old[first:end]

    def locate(self, server: Server) -> None:
        """Notes in a server's state where its requests are."""
        server.times_at = self._times.ctypes.data
        server.lengths_at = self._lengths.ctypes.data
