"""The route that reads and changes the limits: GET and PUT ``/pals/batch_limit``."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import os
import secrets
from typing import Any

from .limits import check_body

PATH = "/pals/batch_limit"
UTILITY = "pals_batch_limit"
ALLOW_REMOTE = "PALS_BATCH_LIMIT_ALLOW_REMOTE"
MAX_BODY_BYTES = 4096
FORWARDED = (b"x-forwarded-for", b"x-real-ip", b"forwarded")
"""Headers by which proxies tell whom they speak for."""
ENGINE_TIMEOUT_S = 5.0


class RouteError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class BatchLimitRoute:
    """ASGI middleware that answers one path and passes everything else on.

    vLLM puts its own key check inside of middleware named on its command line, so a request
    arrives here unchecked; the route checks the server's key itself. It answers loopback
    callers only, unless the environment variable ``PALS_BATCH_LIMIT_ALLOW_REMOTE`` is 1.
    """

    def __init__(self, app: Any) -> None:
        import vllm

        from . import versions

        versions.check(vllm.__version__)
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers a request (ASGI)."""
        if scope["type"] != "http" or _path(scope) != PATH:
            await self._app(scope, receive, send)
            return
        try:
            status, answer = 200, await _answer(scope, receive)
        except RouteError as error:
            status, answer = error.status, {"error": error.detail}
        body = json.dumps(answer).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _path(scope: Any) -> str:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path.rstrip("/")


async def _answer(scope: Any, receive: Any) -> dict[str, Any]:
    headers = {name.lower(): value for name, value in scope["headers"]}
    _check_caller(scope, headers)
    state = scope["app"].state
    _check_key(state, headers)
    if scope["method"] == "GET":
        changes = None
    elif scope["method"] == "PUT":
        changes = _changes(await _body(receive))
    else:
        raise RouteError(405, "use GET to read the limits, PUT to change them")
    return await _ask_engine(state, changes)


def _check_caller(scope: Any, headers: dict[bytes, bytes]) -> None:
    if b"origin" in headers:
        raise RouteError(403, "web pages may not use this route")
    if os.environ.get(ALLOW_REMOTE) == "1":
        return
    # A client behind a proxy may name any address, and the server may believe it.
    if any(name in headers for name in FORWARDED):
        raise RouteError(403, f"not through a proxy; {ALLOW_REMOTE}=1 lets others in")
    if not _is_literal(headers.get(b"host", b"localhost").decode("latin-1")):
        raise RouteError(403, "call the server by its address or as localhost")
    client = scope.get("client")
    if client is not None and not _is_loopback(client[0]):  # None: a Unix socket
        raise RouteError(403, f"only loopback callers; {ALLOW_REMOTE}=1 lets others in")


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)  # ::ffff:127.0.0.1
    return bool((mapped or found).is_loopback)


def _is_literal(host: str) -> bool:
    """Whether a Host header names no domain: a web page's could point anywhere, also here."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_key(state: Any, headers: dict[bytes, bytes]) -> None:
    arguments = getattr(state, "args", None)
    if arguments is None or not hasattr(arguments, "api_key"):
        raise RouteError(503, "cannot tell whether this server has an API key")
    given = arguments.api_key or [os.environ.get("VLLM_API_KEY")]
    keys = [key for key in ([given] if isinstance(given, str) else given) if key]
    if not keys:
        return
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    digest = hashlib.sha256(token).digest()
    matches = [
        secrets.compare_digest(digest, hashlib.sha256(key.encode()).digest()) for key in keys
    ]
    if scheme.lower() != b"bearer" or not any(matches):
        raise RouteError(401, "send the server's API key: Authorization: Bearer KEY")


async def _body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RouteError(422, "the body did not arrive")
        body += bytes(message.get("body", b""))
        if len(body) > MAX_BODY_BYTES:
            raise RouteError(422, f"the body is longer than {MAX_BODY_BYTES} bytes")
        if not message.get("more_body"):
            return body


def _changes(body: bytes) -> dict[str, Any]:
    try:
        return check_body(json.loads(body))
    except (ValueError, RecursionError) as error:
        raise RouteError(422, str(error)) from error


async def _ask_engine(state: Any, changes: dict[str, Any] | None) -> dict[str, Any]:
    core = state.engine_client.engine_core
    try:
        answers = await asyncio.wait_for(_call(core, changes), timeout=ENGINE_TIMEOUT_S)
    except TimeoutError as error:
        raise RouteError(504, f"the engine did not answer in {ENGINE_TIMEOUT_S:g} s") from error
    except Exception as error:
        raise RouteError(503, f"the engine refused: {error}") from error
    for answer in answers:
        if "error" in answer:
            raise RouteError(answer.get("status", 422), answer["error"])
    return merged(answers)


async def _call(core: Any, changes: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Asks every engine; with data parallelism vLLM itself tells one engine's answer only."""
    engines = getattr(core, "core_engines", None) or []
    if len(engines) > 1 and hasattr(core, "call_utility_all_async"):
        return list(await core.call_utility_all_async(UTILITY, changes))
    if len(engines) > 1 and hasattr(core, "_call_utility_async"):
        calls = [core._call_utility_async(UTILITY, changes, engine=engine) for engine in engines]
        return list(await asyncio.gather(*calls))
    return [await core.call_utility_async(UTILITY, changes)]


def merged(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns what several engines tell as one answer.

    Limits hold for each engine and are the highest of them; requests are added up; an effect
    is felt when the last engine feels it.
    """
    first = answers[0]
    if len(answers) == 1:
        return first

    def of(key: str) -> list[Any]:
        return [answer[key] for answer in answers]

    delays, leases = of("effect_delay_s"), of("lease_left_s")
    return first | {
        "instance": "+".join(of("instance")),
        "max_num_seqs": max(of("max_num_seqs")),
        "max_num_batched_tokens": max(of("max_num_batched_tokens")),
        "running": sum(of("running")),
        "waiting": sum(of("waiting")),
        "effect_delay_s": None if None in delays else max(delays),
        "lease_left_s": None if None in leases else min(leases),
        "engines": len(answers),
    }
