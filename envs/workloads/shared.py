"""A stream of requests that several readers go through, each at its own pace."""

from __future__ import annotations

from envs.workloads.base import RequestChunk, RequestStream


class _Place:
    """Where a reader stands: the chunk that comes next, once a reader has taken it."""

    __slots__ = ("after", "chunk")

    def __init__(self) -> None:
        self.chunk: RequestChunk | None = None
        self.after: _Place | None = None


class SharedStream:
    """A reader of a stream; its forks read the same requests, in whatever order they do.

    A chunk is drawn from the stream once and kept as long as a reader or a :attr:`place` lies
    before it, so that a single reader holds nothing.

    Args:
        stream: The stream; from now on it is read through this reader and its forks only.
        chunk: Requests that each reader takes at a time.

    Attributes:
        place: Where this reader stands. Set to an earlier value, it reads again from there.
    """

    def __init__(self, stream: RequestStream, chunk: int) -> None:
        self._stream = stream
        self._chunk = chunk
        self.place = _Place()

    def next_chunk(self) -> RequestChunk:
        """Returns the next requests: a full chunk, or fewer when the stream ends."""
        place = self.place
        if place.chunk is None:
            place.chunk = self._stream.take(self._chunk)
            place.after = _Place()
        assert place.after is not None
        self.place = place.after
        return place.chunk

    def fork(self) -> SharedStream:
        """Returns another reader at the same place."""
        fork = SharedStream(self._stream, self._chunk)
        fork.place = self.place
        return fork
