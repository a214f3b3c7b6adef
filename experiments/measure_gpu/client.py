"""Completion requests of fixed length, and what the server says of itself."""

from __future__ import annotations

import asyncio
import json
import random
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp

BATCH_LIMIT_PATH = "/pals/batch_limit"
_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')
_SAMPLE = re.compile(r"^(vllm:\w+)(?:\{[^}]*\})?\s+(\S+)")


@dataclass(kw_only=True)
class Request:
    """One request and what became of it; times are ``time.monotonic()``.

    Attributes:
        prompt_tokens: Length of the prompt.
        output_tokens: Tokens to generate, no fewer.
        due_s: When it was to be sent.
        streamed: Whether the answer was streamed, token by token.
        sent_s: When it was sent.
        first_s: When the first token came, if it was streamed.
        end_s: When the answer was complete.
        received_tokens: Tokens generated as the server counted them.
        gaps_ms: Median, 90th and 99th percentile of the times between two pieces.
        error: What went wrong.
    """

    prompt_tokens: int
    output_tokens: int
    due_s: float | None = None
    streamed: bool = True
    sent_s: float | None = None
    first_s: float | None = None
    end_s: float | None = None
    received_tokens: int = 0
    gaps_ms: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def ttft_s(self) -> float | None:
        """Time to the first token."""
        return None if self.first_s is None or self.sent_s is None else self.first_s - self.sent_s

    def as_row(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        return asdict(self)


class Server:
    """One vLLM server on this machine.

    Attributes:
        url: Its address.
        model: The model's served name.
    """

    def __init__(
        self, session: aiohttp.ClientSession, url: str, model: str, token_ids: tuple[int, int]
    ) -> None:
        """Keeps what is needed to send requests.

        Args:
            session: The HTTP client.
            url: Address, such as ``http://127.0.0.1:8000``.
            model: The model's served name.
            token_ids: Prompts are drawn at random from this range, so that none repeats.
        """
        self.url = url.rstrip("/")
        self.model = model
        self._session = session
        self._token_ids = token_ids
        self._random = random.Random(1)

    async def send(self, request: Request, on_first: Callable[[], None] | None = None) -> Request:
        """Sends a request and waits for all of its tokens.

        Args:
            request: What to send; it is filled in.
            on_first: Called when the first token arrives.
        """
        low, high = self._token_ids
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": [self._random.randrange(low, high) for _ in range(request.prompt_tokens)],
            "max_tokens": request.output_tokens,
            "ignore_eos": True,
            "temperature": 1.0,
            "stream": request.streamed,
        }
        if request.streamed:
            body["stream_options"] = {"include_usage": True}
        payload = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request.sent_s = time.monotonic()
        try:
            async with self._session.post(
                f"{self.url}/v1/completions", data=payload, headers=headers
            ) as response:
                if response.status != 200:
                    request.error = f"HTTP {response.status}: {(await response.text())[:200]}"
                elif request.streamed:
                    await _read_stream(response, request, on_first)
                else:
                    _note_tokens(await response.read(), request)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            request.error = f"{type(error).__name__}: {error}"
        request.end_s = time.monotonic()
        if request.error is None and request.received_tokens != request.output_tokens:
            request.error = f"{request.received_tokens} tokens of {request.output_tokens}"
        return request

    async def metrics(self) -> dict[str, float]:
        """Returns vLLM's counters and gauges by name, summed over their labels."""
        async with self._session.get(f"{self.url}/metrics") as response:
            text = await response.text()
        found: dict[str, float] = {}
        for line in text.splitlines():
            match = _SAMPLE.match(line)
            if match and not match[1].endswith(("_bucket", "_created")):
                found[match[1]] = found.get(match[1], 0.0) + float(match[2])
        return found

    async def batch_limit(self, **changes: Any) -> dict[str, Any] | None:
        """Reads or changes the batch limit; ``None`` if the server has no plug-in for it."""
        method = "PUT" if changes else "GET"
        async with self._session.request(
            method, self.url + BATCH_LIMIT_PATH, json=changes or None
        ) as response:
            if response.status == 404:
                return None
            response.raise_for_status()
            answer: dict[str, Any] = await response.json()
            return answer

    async def version(self) -> str:
        """Returns vLLM's version."""
        async with self._session.get(f"{self.url}/version") as response:
            return str((await response.json())["version"])


async def _read_stream(
    response: aiohttp.ClientResponse, request: Request, on_first: Callable[[], None] | None
) -> None:
    gaps: list[float] = []
    last = 0.0
    tail = b""
    async for piece in response.content.iter_any():
        now = time.monotonic()
        if request.first_s is None:
            request.first_s = now
            if on_first is not None:
                on_first()
        else:
            gaps.append(1e3 * (now - last))
        last = now
        tail = (tail + piece)[-2000:]
    _note_tokens(tail, request)
    if len(gaps) >= 2:
        cuts = statistics.quantiles(gaps, n=100, method="inclusive")
        request.gaps_ms = [round(cuts[place - 1], 3) for place in (50, 90, 99)]


def _note_tokens(body: bytes, request: Request) -> None:
    counts = _TOKENS.findall(body)
    request.received_tokens = int(counts[-1]) if counts else 0


async def watch(server: Server, write: Callable[[dict[str, Any]], None], period_s: float) -> None:
    """Writes the server's counters until cancelled, and the plug-in's count of steps.

    A poll that fails is left out; the next one shows a longer gap.
    """
    has_plugin = True
    while True:
        try:
            began = time.monotonic()
            row: dict[str, Any] = {"url": server.url, "time_s": began} | await server.metrics()
            row["read_s"] = time.monotonic() - began
            if has_plugin:
                state = await server.batch_limit()
                has_plugin = state is not None
                row["limit_time_s"] = time.monotonic()
                row |= {f"limit_{key}": value for key, value in (state or {}).items()}
            write(row)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            pass
        await asyncio.sleep(period_s)
