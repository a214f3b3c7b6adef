"""A ``zeusd`` of our own: its HTTP API on a Unix socket, as documented, over fake GPUs."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit


class FakeZeusd:
    """A daemon that is root over some fake GPUs.

    Attributes:
        discovery: What it tells of itself.
        calls: Paths and queries of what was asked to be set.

    Args:
        place: Its socket.
        gpus: Changes a GPU: number and values.
        count: How many GPUs there are.
        bounds_mw: Lowest and highest cap.
    """

    def __init__(
        self, place: Path, change: Callable[..., None], count: int, bounds_mw: tuple[int, int]
    ) -> None:
        self.place, self.change, self.bounds_mw = place, change, bounds_mw
        self.token = ""
        self.calls: list[tuple[str, dict[str, str]]] = []
        self.discovery: dict[str, Any] = {
            "gpus": [
                {
                    # numbered the other way round than NVML does
                    "id": count - 1 - index, "name": "NVIDIA Fake 400W",
                    "pci_address": f"0000:{index + 1:02x}:00.0",
                    "cumulative_energy_available": True,
                }
                for index in range(count)
            ],
            "cpus": [],
            "enabled_api_groups": ["gpu-control", "gpu-read"],
            "auth_required": False,
        }  # fmt: skip
        self._server: socketserver.ThreadingUnixStreamServer | None = None
        self.start()

    def start(self) -> None:
        daemon = self

        class Handler(BaseHTTPRequestHandler):
            def address_string(self) -> str:
                return "unix"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                known = urlsplit(self.path).path == "/discover"
                self._say(*((200, daemon.discovery) if known else (404, None)))

            def do_POST(self) -> None:
                self._say(*daemon.answer(self.path, self.headers.get("Authorization", "")))

            def _say(self, status: int, body: Any) -> None:
                text = b"" if body is None else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        self._server = socketserver.ThreadingUnixStreamServer(str(self.place), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            self.place.unlink()

    def answer(self, target: str, authorization: str) -> tuple[int, Any]:
        """Returns status and body for a call that sets something."""
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        if "gpu-control" not in self.discovery["enabled_api_groups"]:
            return 404, None
        if self.token and authorization != f"Bearer {self.token}":
            return 401, "Authentication required."
        self.calls.append((parts.path, dict(query)))
        number = int(query.pop("gpu_ids"))
        assert query.pop("block") == "true"
        if "gpus" in self.discovery:
            index = [gpu["id"] for gpu in self.discovery["gpus"]].index(number)
        else:
            index = number
        what = parts.path.removeprefix("/gpu/")
        if what == "set_power_limit":
            milliwatts = int(query.pop("power_limit_mw"))
            if not self.bounds_mw[0] <= milliwatts <= self.bounds_mw[1]:
                return 400, {"errors": {str(number): "NVML error: an argument is invalid"}}
            self.change(index, limit=milliwatts)
        elif what == "set_gpu_locked_clocks":
            clocks = [int(query.pop("min_clock_mhz")), int(query.pop("max_clock_mhz"))]
            self.change(index, locked=clocks)
        elif what == "reset_gpu_locked_clocks":
            self.change(index, locked=None)
        else:
            return 404, None
        assert not query, "zeusd refuses what it does not know"
        return 200, None
