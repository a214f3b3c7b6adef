"""Answers ``/healthz`` and ``/metrics`` over HTTP, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST

from envs.errors import ConfigurationError

Health = Callable[[], str | None]


class StatusServer:
    """Serves two paths, read-only.

    Attributes:
        port: Port it listens on.

    Args:
        host: Address to listen on.
        port: Port; 0 takes a free one.
        health: Tells what is wrong; ``None`` if all is well.
        metrics: Tells the metrics.

    Raises:
        ConfigurationError: The address is taken.
    """

    def __init__(self, host: str, port: int, health: Health, metrics: Callable[[], bytes]) -> None:
        class Handler(BaseHTTPRequestHandler):
            """Answers one request."""

            timeout = 5.0

            def do_GET(self) -> None:
                if self.path == "/healthz":
                    problem = health()
                    self._answer(503 if problem else 200, (problem or "ok").encode(), "text/plain")
                elif self.path == "/metrics":
                    self._answer(200, metrics(), CONTENT_TYPE_LATEST)
                else:
                    self._answer(404, b"there are /healthz and /metrics", "text/plain")

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Logs nothing: a scrape is no event."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise ConfigurationError(
                f"service.host, service.port: cannot listen on {host}:{port} ({error.strerror})"
            ) from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="status-server", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
