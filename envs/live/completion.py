"""One streaming completion: sends it, counts its tokens, names what went wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from envs.live.errors import (
    RequestsRefusedError,
    ServerDiedError,
    ServerHangsError,
    ServerNotThereError,
)

_TOO_LONG = (400, 413, 422)
_DATA = b"data:"
_DONE = b"[DONE]"
_GARBAGE = (
    ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError,
)  # fmt: skip


class TooLongError(Exception):
    """The server refuses the request for its length; others may go on."""


def completion_body(model: str, prompt: list[int], output_tokens: int) -> dict[str, Any]:
    """Returns the body of a request with exactly so many tokens in and out.

    It has no seed: vLLM on a CPU ends when a request carries one. Tokens are counted by the usage
    that comes with every piece; token ids are not asked for, because the first piece would
    send a long prompt back.
    """
    return {
        "model": model,
        "prompt": prompt,
        "max_tokens": output_tokens,
        "min_tokens": output_tokens,
        "ignore_eos": True,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }


async def complete(
    session: Any, url: str, body: dict[str, Any], on_tokens: Callable[[int], None]
) -> None:
    """Sends a completion request and reads its stream to the end.

    A request on a connection used before, which the server drops without an answer, is sent again
    on another; a new connection that is dropped is an error.

    Args:
        session: An ``aiohttp.ClientSession``, traced by :func:`reuse_noted`.
        url: Address of the server.
        body: What :func:`completion_body` returned.
        on_tokens: Called with the number of tokens of each piece as it arrives.

    Raises:
        TooLongError: The server refuses the request for its length.
        ServerError: The request failed; the type tells how.
    """
    import aiohttp

    while True:
        way = {"reused": False}
        try:
            async with session.post(
                f"{url}/v1/completions", json=body, trace_request_ctx=way
            ) as answer:
                way["reused"] = False  # from here on it is an answer that breaks off
                if answer.status != 200:
                    _refuse(answer.status, await answer.text())
                await _read(answer.content, body["max_tokens"], on_tokens)
            return
        except TimeoutError as error:
            raise ServerHangsError(f"{url}: a request could not connect in time") from error
        except aiohttp.ClientConnectorError as error:
            raise ServerNotThereError(f"{url}: nothing answers ({error})") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            # A server counts from its last byte how long a connection is idle, we from reading
            # it: after a halt of ours it drops connections that are young to us.
            if not way["reused"]:
                raise ServerDiedError(f"{url}: a request broke off ({error!r})") from error


def reuse_noted() -> Any:
    """Returns what a session needs for :func:`complete` to know of connections used before."""
    import aiohttp

    async def note(_session: Any, context: Any, _parameters: Any) -> None:
        context.trace_request_ctx["reused"] = True

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(note)
    return tracing


def _refuse(status: int, text: str) -> None:
    message = " ".join(text.split())[:300]
    if status in _TOO_LONG and ("context" in message or "length" in message):
        raise TooLongError(message)
    advice = {
        401: "; set server.api_key_env to the variable that holds its API key",
        404: "; set server.model to a name that /v1/models lists",
        503: "; it is not ready, or shutting down",
    }.get(status, "")
    raise RequestsRefusedError(f"the server refuses requests: {status} {message}{advice}")


async def _read(content: Any, wanted: int, on_tokens: Callable[[int], None]) -> None:
    received = 0
    async for line in content:
        if not line.startswith(_DATA):
            continue
        data = line[len(_DATA) :].strip()
        if data == _DONE:
            if received != wanted:
                raise RequestsRefusedError(
                    f"a completion of {wanted} tokens ended after {received}; the server "
                    "ignores ignore_eos or max_tokens"
                )
            return
        tokens = _tokens_so_far(data, received) - received
        if tokens > 0:
            received += tokens
            on_tokens(tokens)
    raise ServerDiedError(f"a stream ended after {received} of {wanted} tokens")


def _tokens_so_far(data: bytes, received: int) -> int:
    """Returns the number of tokens up to one piece of the stream."""
    try:
        piece = json.loads(data)
        if "error" in piece:
            raise ServerDiedError(f"the engine failed: {str(piece['error'])[:300]}")
        usage = piece.get("usage")
        if usage is not None:
            return int(usage["completion_tokens"])
        # Servers that tell no usage on the way send one piece a token.
        return received + len(piece["choices"])
    except _GARBAGE as error:
        raise RequestsRefusedError(f"a completion's stream is garbage: {data[:80]!r}") from error
