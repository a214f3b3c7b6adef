"""Hands the page and its tables to a browser on this machine."""

from __future__ import annotations

import contextlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from typing_extensions import override

from envs.errors import ConfigurationError
from experiments.watching.runs import find_runs, run_table

PAGE = Path(__file__).with_name("page.html")
_HOSTS = ("127.0.0.1", "localhost")
"""Names that a browser on this machine uses; others would be another site's trick."""
_MOST_PORT = 65_535


class WatchServer:
    """Serves the runs below a folder on 127.0.0.1; it reads and never writes.

    Args:
        directory: The folder.
        port: Port; 0 takes a free one.

    Attributes:
        answered: Pages and tables that were handed out.

    Raises:
        ConfigurationError: There is no run in the folder, or no such port.
        OSError: The port is taken.
    """

    def __init__(self, directory: Path, port: int = 0) -> None:
        self._directory = directory
        if not 0 <= port <= _MOST_PORT:
            raise ConfigurationError(f"port: must be 0 (a free one) to {_MOST_PORT}, got {port}")
        find_runs(directory)
        self.answered = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            """Answers one request."""

            def do_GET(self) -> None:
                """Answers with the page, the list of runs or a run's table."""
                outer.answer(self)

            @override
            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing: requests come every second."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def serve(self) -> None:
        """Serves until :meth:`close`."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Ends serving."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answers a request of the page."""
        try:
            self._answer(request)
        except (ConfigurationError, OSError) as error:  # a file is damaged, or has just gone
            with contextlib.suppress(OSError):  # or the browser has
                _send(request, 500, str(error).encode(), "text/plain; charset=utf-8")

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        host = (request.headers.get("Host") or "").partition(":")[0]
        where = urlsplit(request.path)
        if host not in _HOSTS:
            _send(request, 403, b"only for this machine", "text/plain")
        elif where.path == "/":
            self.answered += 1
            _send(request, 200, PAGE.read_bytes(), "text/html; charset=utf-8")
        elif where.path == "/runs":
            names = [self._name(folder) for folder in find_runs(self._directory)]
            _send(request, 200, json.dumps(names).encode(), "application/json")
        elif where.path == "/run":
            self._table(request, parse_qs(where.query).get("name", [""])[0])
        else:
            _send(request, 404, b"no such page", "text/plain")

    def _table(self, request: BaseHTTPRequestHandler, name: str) -> None:
        found = {self._name(folder): folder for folder in find_runs(self._directory)}
        if name not in found:  # only folders that were found are read
            _send(request, 404, b"no such run", "text/plain")
            return
        self.answered += 1
        _send(request, 200, json.dumps(run_table(found[name])).encode(), "application/json")

    def _name(self, folder: Path) -> str:
        return folder.relative_to(self._directory).as_posix()


def _send(request: BaseHTTPRequestHandler, code: int, body: bytes, kind: str) -> None:
    request.send_response(code)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    request.send_header("Cache-Control", "no-store")
    request.end_headers()
    request.wfile.write(body)
