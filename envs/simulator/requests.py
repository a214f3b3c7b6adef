"""The requests that wait for or are yet to come to one simulated server."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.compiled.records import WORD
from envs.simulator.kernel.layout import ARRIVAL, OWN_TEXTS, SERVER, Server
from envs.workloads.base import RequestChunk, RequestStream
from envs.workloads.shared import SharedStream

_FIELDS: Any = SERVER.fields
_QUEUE = np.array(
    [
        _FIELDS[name][1] // WORD
        for name in ("queue_head", "queue_tail", "next_arrival", "arrivals_end")
    ]
)
"""Where a server's record says what of the memory is used."""
_EXHAUSTED = _FIELDS["exhausted"][1] // WORD
_ARRIVALS_AT = _FIELDS["arrivals_at"][1] // WORD


class SavedRequests(NamedTuple):
    """Requests of a server in a saved state.

    Attributes:
        arrivals: Those that wait or are known to come
            (:class:`envs.simulator.kernel.layout.Arrival`).
        begin: Where the first one lies in the server's memory.
        end: Where the last one ends.
        stream: Gives those that come then.
        chunk: How many of them it gives at a time.
    """

    arrivals: NDArray[Any]
    begin: int
    end: int
    stream: SharedStream
    chunk: int

    @property
    def address(self) -> int:
        """Where the list would begin if it was as long as in the server's memory."""
        return int(self.arrivals.ctypes.data) - self.begin * ARRIVAL.itemsize


class RequestBuffer:
    """Requests that wait and some that will come, in memory that grows with the queue.

    Args:
        chunk: Requests taken from the stream at a time.

    Attributes:
        origin: What the requests were restored from or saved as; ``None`` once others were
            taken from the stream.
    """

    def __init__(self, chunk: int) -> None:
        self._chunk = chunk
        self._stream: SharedStream | None = None
        self._words: NDArray[np.int64] | None = None
        self.origin: object = None
        self._allocate(2 * chunk)

    def restart(self, stream: RequestStream) -> None:
        """Begins an episode with a new stream; memory that a long queue took is given back."""
        self._stream = SharedStream(stream, self._chunk)
        self.origin = None
        if len(self._arrivals) > 8 * self._chunk:
            self._allocate(2 * self._chunk)

    def _allocate(self, requests: int) -> None:
        """Takes memory for so many requests."""
        # A plain array: fields of NumPy's record arrays take ten times as long to reach.
        self._arrivals = np.zeros(requests, dtype=np.dtype((np.void, ARRIVAL)))

    def feed(self, server: Server) -> None:
        """Takes a chunk from the stream, behind what is left of those before.

        Args:
            server: Its record; notes where its requests are now.
        """
        assert self._stream is not None
        if self._words is None:
            self.locate(server)
        assert self._words is not None
        words = self._words
        head, tail, first, end = words[_QUEUE].tolist()
        chunk = self._stream.next_chunk()
        self.origin = None
        fresh = len(chunk.arrival_time_s)
        kept = tail - head
        pending = end - first
        if tail + pending + fresh > len(self._arrivals):
            # Moving what waits is paid for by the room it makes: at least as much again.
            self._move_to_front(head, tail, first, end, fresh)
            head, tail, first = 0, kept, kept
        arrivals = self._arrivals
        start = tail + pending
        # What moves down within one array is copied on the way; NumPy sees to overlaps.
        arrivals[tail:start] = arrivals[first : first + pending]
        write_arrivals(arrivals[start : start + fresh], chunk)
        words[_QUEUE] = head, tail, tail, start + fresh
        words[_EXHAUSTED] = fresh == 0
        words[_ARRIVALS_AT] = arrivals.ctypes.data

    def _move_to_front(self, head: int, tail: int, first: int, end: int, fresh: int) -> None:
        """Moves what waits, and behind it what is to come, to the start of the memory."""
        old = self._arrivals
        kept, size = tail - head, tail - head + end - first
        if 2 * (size + fresh) > len(old):
            self._allocate(3 * (size + fresh))  # so that a queue that grows does not ask each time
        self._arrivals[:kept] = old[head:tail]
        self._arrivals[kept:size] = old[first:end]

    def save(self, server: Server) -> SavedRequests:
        """Returns a copy of what waits and of what is to come."""
        assert self._stream is not None
        part = slice(int(server.queue_head), int(server.arrivals_end))
        return SavedRequests(
            self._arrivals[part].copy(), part.start, part.stop, self._stream.fork(), self._chunk
        )

    def make_room(self, saved: SavedRequests, server: Server) -> None:
        """Takes the memory and the place in the stream that saved requests need.

        Raises:
            ValueError: They were taken from the stream in other chunks.
        """
        if saved.chunk != self._chunk:
            raise ValueError(f"requests saved in chunks of {saved.chunk}, not {self._chunk}")
        if saved.end > len(self._arrivals):
            self._allocate(saved.end)
        self.locate(server)
        self._stream = saved.stream.fork()

    def locate(self, server: Server) -> None:
        """Notes in a server's state where its requests are, and where that state is."""
        self._words = np.asarray(server).reshape(1).view(np.int64)
        self._words[_ARRIVALS_AT] = self._arrivals.ctypes.data

    def reach(self, server: Server, ahead_s: float | None) -> int:
        """Takes requests from the stream until all that arrive within a time are known.

        Args:
            server: Its record.
            ahead_s: The time in seconds, from now on. A closed loop, whose requests have no
                time, gets at least a chunk. ``None``: what has come, which in a closed loop
                is nothing beyond what is in flight.

        Returns:
            The place behind the last of them.
        """
        if ahead_s is None and server.concurrency:
            return int(server.next_arrival)
        until_s = server.until_s if ahead_s is None else server.now_s + ahead_s
        while not server.exhausted:
            end = int(server.arrivals_end)
            pending = end - int(server.next_arrival)
            if (
                pending >= self._chunk
                if server.concurrency
                else (pending and self._arrivals["arrived_s"][end - 1] > until_s)
            ):
                break
            self.feed(server)
        first, end = int(server.next_arrival), int(server.arrivals_end)
        if server.concurrency:
            return end
        coming = self._arrivals["arrived_s"][first:end]
        return first + int(np.searchsorted(coming, until_s, side="right"))

    def copy_to(self, arrivals: NDArray[Any], first: int, end: int) -> None:
        """Copies a stretch of the requests to the same places of other memory.

        Args:
            arrivals: Requests (:class:`envs.simulator.kernel.layout.Arrival`), shape
                ``(copies, room)``.
            first: The first request to copy.
            end: The place behind the last.
        """
        arrivals[:, first:end] = self._arrivals[first:end]


def write_arrivals(arrivals: Any, chunk: RequestChunk) -> None:
    """Writes requests of a stream.

    Args:
        arrivals: As many records (:class:`envs.simulator.kernel.layout.Arrival`).
        chunk: The requests.
    """
    arrivals["arrived_s"] = chunk.arrival_time_s
    arrivals["prompt_tokens"] = chunk.prompt_tokens
    arrivals["output_tokens"] = chunk.output_tokens
    if chunk.texts is None:
        arrivals["text"] = arrivals["first_id"] = -1
    else:
        arrivals["text"] = np.minimum(chunk.texts[:, 0], OWN_TEXTS - 1)
        arrivals["first_id"], arrivals["id_shift"] = chunk.texts[:, 1], chunk.texts[:, 2]
