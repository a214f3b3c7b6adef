"""Connections that a server may have dropped meanwhile are not used for the next request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from live_support import PATIENCE_S, wait_for
from support.server_specs import Given

from envs.errors import ServerError
from envs.live import load_generator
from envs.live.accounting import Event
from envs.live.load_generator import LoadGenerator, Target

_VLLM_DROPS_AFTER_S = 5.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    ports: list[int]
    drops: Callable[[int, list[int]], bool]


class _Completions(BaseHTTPRequestHandler):
    """Answers each request with its tokens, and notes the port that it came from."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        port = self.client_address[1]
        dropped = self.server.drops(port, self.server.ports)
        self.server.ports.append(port)
        if dropped:
            self.close_connection = True
            return
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["max_tokens"]
        piece = json.dumps({"choices": [], "usage": {"completion_tokens": wanted}})
        body = f"data: {piece}\n\ndata: [DONE]\n\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Completions) as found:
        found.ports = []
        found.drops = lambda _port, _before: False
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def ports_of_two_requests(server: _Server, idle_s: float) -> list[int]:
    """Returns the ports that two requests came from, the second some time after the first ended."""
    url = f"http://127.0.0.1:{server.server_port}"
    generator = LoadGenerator(Target(url, "model", {}, (10, 20), 4, PATIENCE_S))
    try:
        rng = np.random.default_rng(0)
        for number in (1, 2):
            ended: list[Event] = []

            def has_ended(ended: list[Event] = ended) -> bool:
                ended += generator.take()
                return any(event.kind == "finished" for event in ended)

            generator.begin(Given([(0.0, 5, 3)]).stream(rng, 1.0), rng, None)
            wait_for(has_ended)
            assert generator.take_failures() == []
            if number == 1:
                time.sleep(idle_s)
    finally:
        generator.close()
    return server.ports


def test_a_connection_that_was_idle_for_long_is_not_used_again(
    server: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_generator._KEEP_ALIVE_S < _VLLM_DROPS_AFTER_S - 1.0
    monkeypatch.setattr(load_generator, "_KEEP_ALIVE_S", 0.1)
    first, second = ports_of_two_requests(server, 0.6)
    assert first != second


def test_one_that_was_used_just_now_is(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_generator, "_KEEP_ALIVE_S", 10 * PATIENCE_S)
    first, second = ports_of_two_requests(server, 0.0)
    assert first == second


def test_one_that_the_server_drops_at_the_next_request_loses_nothing(
    server: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_generator, "_KEEP_ALIVE_S", 10 * PATIENCE_S)
    server.drops = lambda port, before: port in before
    first, second, third = ports_of_two_requests(server, 0.0)
    assert first == second != third


def test_a_server_that_drops_new_ones_is_told(server: _Server) -> None:
    server.drops = lambda _port, _before: True
    generator = LoadGenerator(
        Target(f"http://127.0.0.1:{server.server_port}", "model", {}, (10, 20), 4, PATIENCE_S)
    )
    told: list[ServerError] = []
    try:
        rng = np.random.default_rng(0)
        generator.begin(Given([(0.0, 5, 3)]).stream(rng, 1.0), rng, None)
        wait_for(lambda: told.extend(generator.take_failures()) or told)
    finally:
        generator.close()
    assert "ServerDisconnectedError" in str(told[0])
    assert len(server.ports) == 1
