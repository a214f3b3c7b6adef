"""Sends a workload to the server as streaming completions, in real time.

It runs in a thread of its own with its own event loop, so that a controller that thinks for
long does not delay requests. Prompts are random token ids of the exact length.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.errors import ServerError
from envs.live.accounting import Event
from envs.live.completion import TooLongError, complete, completion_body, reuse_noted
from envs.live.errors import RequestsRefusedError
from envs.workloads.base import RequestStream

_CHUNK = 64
_KEEP_ALIVE_S = 3.0
_LONGEST_PIECE_BYTES = 2**22


@dataclass(frozen=True)
class Target:
    """Where and how requests are sent.

    Attributes:
        url: Address of the server.
        model: Name under which the server knows its model.
        headers: Headers of every request.
        token_ids: Prompts are drawn from this half-open range of token ids.
        max_in_flight: Requests that may be open at once; later ones wait here, and the wait
            counts as theirs.
        connect_timeout_s: Longest time to open a connection. There is none for an answer: a
            request may wait in the server's queue for as long as it likes.
    """

    url: str
    model: str
    headers: dict[str, str]
    token_ids: tuple[int, int]
    max_in_flight: int
    connect_timeout_s: float


class LoadGenerator:
    """Sends the requests of a stream and notes what happens to each.

    Args:
        target: Where to send them.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self._events: deque[Event] = deque()
        self._failures: deque[ServerError] = deque()
        self._era = 0
        self._lag_s = 0.0
        self._start_s = time.monotonic()
        self._delay_s = 0.0
        self._numbers = iter(range(0))
        self._rng = np.random.default_rng()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sender: asyncio.Task[None] | None = None
        self._session: Any = None
        self._loop = asyncio.new_event_loop()
        self._running = asyncio.Event()
        self._slots = asyncio.Semaphore(target.max_in_flight)
        self._thread = threading.Thread(target=self._run, name="load-generator", daemon=True)
        self._thread.start()

    def begin(
        self, stream: RequestStream, rng: np.random.Generator, concurrency: int | None
    ) -> None:
        """Starts to send, from time 0 on; what was sent before is cancelled and forgotten.

        Args:
            stream: The requests.
            rng: Source of the prompts' token ids.
            concurrency: Requests kept in flight by a closed loop; ``None`` for open arrivals.
        """
        self._do(self._begin(stream, rng, concurrency))

    def pause(self) -> None:
        """Stops sending and cancels our open requests, and only ours."""
        self._do(self._pause())

    def resume(self) -> None:
        """Goes on after a pause."""
        self._loop.call_soon_threadsafe(self._running.set)

    def postpone(self, seconds: float) -> None:
        """Moves every later arrival back: the workload's clock stood still so long."""
        self._delay_s += seconds

    def close(self) -> None:
        """Cancels our requests and ends the thread."""
        if self._thread.is_alive():
            with contextlib.suppress(TimeoutError):
                self._do(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5.0)

    @property
    def now_s(self) -> float:
        """Time since the load began, on the clock of the events."""
        return time.monotonic() - self._start_s

    def take(self) -> list[Event]:
        """Returns what happened since the last call."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def take_failures(self) -> list[ServerError]:
        """Returns why requests failed since the last call."""
        return [self._failures.popleft() for _ in range(len(self._failures))]

    def forgive(self) -> None:
        """Forgets failures of requests begun by now, also those still to come.

        They were broken by a restart that is known already; told late, it would count twice.
        """
        self._era += 1
        self._failures.clear()

    def take_lag_s(self) -> float:
        """Returns by how much, at worst since the last call, a request was sent too late."""
        lag, self._lag_s = self._lag_s, 0.0
        return lag

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _do(self, work: Coroutine[Any, Any, None], timeout_s: float = 30.0) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    async def _begin(
        self, stream: RequestStream, rng: np.random.Generator, concurrency: int | None
    ) -> None:
        await self._stop_sender()
        await self._pause()
        if self._session is None:
            self._session = self._new_session()
        self._events.clear()
        self.forgive()
        self._lag_s = 0.0
        self._delay_s = 0.0
        self._rng = rng
        self._numbers = iter(range(2**62))
        self._running.set()
        self._start_s = time.monotonic()
        send = self._arrivals(stream) if concurrency is None else self._clients(stream, concurrency)
        self._sender = self._loop.create_task(send)

    def _new_session(self) -> Any:
        import aiohttp

        return aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.target.connect_timeout_s),
            # vLLM drops a connection that was idle for 5 s; one of ours must not be used then.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S),
            read_bufsize=_LONGEST_PIECE_BYTES,
            trace_configs=[reuse_noted()],
            headers=self.target.headers,
        )

    async def _stop_sender(self) -> None:
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
            self._sender = None

    async def _pause(self) -> None:
        self._running.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _close(self) -> None:
        await self._stop_sender()
        await self._pause()
        if self._session is not None:
            await self._session.close()

    async def _arrivals(self, stream: RequestStream) -> None:
        """Sends each request at its time, whatever became of the ones before."""
        while len((chunk := stream.take(_CHUNK)).prompt_tokens):
            rows = zip(*(column.tolist() for column in chunk[:3]), strict=True)
            for arrival_s, prompt, output in rows:
                while True:
                    await self._running.wait()
                    wait_s = arrival_s + self._delay_s - self.now_s
                    if wait_s <= 0:
                        break
                    await asyncio.sleep(wait_s)
                planned_s = arrival_s + self._delay_s
                self._lag_s = max(self._lag_s, self.now_s - planned_s)
                task = self._loop.create_task(self._request(planned_s, prompt, output))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _clients(self, stream: RequestStream, concurrency: int) -> None:
        """Keeps ``concurrency`` requests in flight."""
        while True:
            await self._running.wait()
            missing = concurrency - len(self._tasks)
            if missing > 0:
                chunk = stream.take(missing)
                if not len(chunk.prompt_tokens):
                    return
                lengths = zip(
                    chunk.prompt_tokens.tolist(), chunk.output_tokens.tolist(), strict=True
                )
                for prompt, output in lengths:
                    task = self._loop.create_task(self._request(self.now_s, prompt, output))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def _request(self, arrived_s: float, prompt: int, output: int) -> None:
        number, era = next(self._numbers), self._era
        self._events.append(Event("arrived", number, arrived_s, prompt))
        ids = self._rng.integers(*self.target.token_ids, size=prompt).tolist()
        body = completion_body(self.target.model, ids, output)
        last_s = arrived_s

        def on_tokens(tokens: int) -> None:
            nonlocal last_s
            last_s = self.now_s
            self._events.append(Event("token", number, last_s, tokens))

        try:
            async with self._slots:
                await complete(self._session, self.target.url, body, on_tokens)
            self._events.append(Event("finished", number, last_s))
        except TooLongError:
            self._events.append(Event("rejected", number, self.now_s))
        except ServerError as error:
            self._events.append(Event("lost", number, self.now_s))
            self._fail(error, era)
            # Refusals come at once; without a breath a closed loop would storm the server.
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            self._events.append(Event("lost", number, self.now_s))
            raise
        except Exception as error:  # a request that ends unheard would be open for ever
            self._events.append(Event("lost", number, self.now_s))
            self._fail(RequestsRefusedError(f"a request failed: {error!r}"), era)
            await asyncio.sleep(0.1)

    def _fail(self, error: ServerError, era: int) -> None:
        if era == self._era:
            self._failures.append(error)
