"""Talks to the batch-limit plug-in inside of the server."""

from __future__ import annotations

import json
import os
import secrets
import socket
from pathlib import Path
from typing import Any

from typing_extensions import override

from envs.live.errors import (
    BatchLimitError,
    LimitHeldError,
    NoPluginError,
    ServerNotThereError,
    ServerReplacedError,
)
from envs.live.http_client import HttpClient
from envs.live.limit_control import LimitControl

PATH = "/pals/batch_limit"
PLUGIN_DIR = Path(__file__).resolve().parent / "vllm_plugin"
ARGUMENTS = (
    "--scheduler-cls", "pals_batch_limit.scheduler.BatchLimitScheduler",
    "--middleware", "pals_batch_limit.route.BatchLimitRoute",
)  # fmt: skip
"""What a server is started with, ``PLUGIN_DIR`` being on its ``PYTHONPATH``."""

LEASE_S = 60.0
"""Control that is not renewed for so long lapses; the server then puts its limits back itself."""

_KINDS = {404: NoPluginError, 409: ServerReplacedError, 423: LimitHeldError}


def name_of_holder() -> str:
    """Returns a name for a new holder of a lease, telling whom to ask."""
    return f"{socket.gethostname()[:40]} pid {os.getpid()} ({secrets.token_hex(4)})"


class BatchLimit(LimitControl):
    """Reads and changes the batch limit of one server through the plug-in.

    A change is a lease on the limits of one *instance*: the plug-in notes what it finds when the
    lease begins, and puts that back when it is released or lapses. A server that was started
    again is another instance and refuses changes that were meant for the one before.

    Attributes:
        owner: Name of the holder.
        instance: The instance that changes are meant for; ``None`` before the first reading.

    Args:
        client: Connection to the server.
        owner: Name of the holder; ``None`` makes one.
        instance: The instance that changes are meant for.
    """

    route = PATH
    tells_effect = True

    def __init__(
        self, client: HttpClient, owner: str | None = None, instance: str | None = None
    ) -> None:
        self._client = client
        self.owner = owner or name_of_holder()
        self.instance = instance
        self.found = None

    @property
    @override
    def plan(self) -> dict[str, Any]:
        return {
            "batch_limit": {
                "url": self._client.url,
                "headers": self._client.headers,
                "owner": self.owner,
                "instance": self.instance,
                "found": self.found,
            }
        }

    @override
    def read(self) -> dict[str, Any]:
        answer = self._call("GET", None)
        if not isinstance(answer.get("instance"), str):
            raise BatchLimitError(
                f"{self._client.url}{PATH}: the server runs an older copy of the plug-in; start "
                f"it again with PYTHONPATH={PLUGIN_DIR}"
            )
        if answer["instance"] != self.instance or self.found is None:
            self.found = int(answer["max_num_seqs"])
        self.instance = answer["instance"]
        return answer

    @override
    def check(self, told: dict[str, Any], mode: str) -> None:
        if mode == "preempt" and told.get("preempts") is False:
            raise BatchLimitError(
                f"{self._client.url}{PATH}: this server cannot preempt, because its KV connector "
                "could hand on blocks that were freed; set server.batch_limit=drain"
            )
        if holder := told.get("owner"):
            left_s = told.get("lease_left_s") or 0.0
            raise LimitHeldError(
                f"{self._client.url}{PATH}: the limits are held by {holder}; one controller at a "
                f"time. Its lease ends in {left_s:.0f} s unless it renews it: if it was killed, "
                "start again then"
            )

    @override
    def take(self, mode: str) -> None:
        self.change(mode=mode)

    @override
    def set(self, *, max_num_seqs: int) -> dict[str, Any]:
        return self.change(max_num_seqs=max_num_seqs)

    @override
    def renew(self, max_num_seqs: int, mode: str) -> None:
        # Should the lease have lapsed meanwhile, the limit in force comes back with it.
        self.change(max_num_seqs=max_num_seqs, mode=mode)

    def change(self, **changes: Any) -> dict[str, Any]:
        """Changes ``max_num_seqs``, ``max_num_batched_tokens`` or ``mode``; renews the lease.

        Returns:
            The limits in force afterwards.

        Raises:
            ServerReplacedError: Another instance answers; nothing was changed.
            LimitHeldError: Another controller is in control.
            BatchLimitError: The plug-in is not there, or refuses.
        """
        if self.instance is None:
            self.read()
        holder = {"instance": self.instance, "owner": self.owner, "lease_s": LEASE_S}
        return self._call("PUT", holder | changes)

    @override
    def release(self) -> None:
        # The plug-in puts back what it found when the lease began, also when it lapses by itself.
        if self.instance is None:
            return
        body = {"instance": self.instance, "owner": self.owner, "lease_s": 0}
        try:
            self._call("PUT", body)
        except (ServerNotThereError, NoPluginError, ServerReplacedError, LimitHeldError):
            return

    def _call(self, method: str, body: dict[str, Any] | None) -> dict[str, Any]:
        status, raw = self._client.call(method, PATH, body)
        where = f"{self._client.url}{PATH}"
        if status == 404:
            raise NoPluginError(
                f"{where}: this server has no batch-limit plug-in. Start it with "
                f"PYTHONPATH={PLUGIN_DIR} and {' '.join(ARGUMENTS)}, or leave the batch limit "
                "alone: server.batch_limit=off"
            )
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise BatchLimitError(f"{where}: answered {status} and garbage") from error
        if status != 200 or not isinstance(answer, dict):
            raise _KINDS.get(status, BatchLimitError)(f"{where}: answered {status}: {answer}")
        return answer
