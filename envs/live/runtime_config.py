"""Changes vLLM's batch limit by its own route, as proposed in vLLM's pull request 54816.

``GET /v1/runtime_config`` tells ``max_num_seqs``, which the server was started with, and
``max_num_running_seqs``, how many requests it admits now; ``PATCH`` changes the second, between
1 and the first. Running requests that exceed it are drained. The route knows neither holders nor
leases: what was found is put back by us, or by the guard.
"""

from __future__ import annotations

import contextlib
import json
import logging
from typing import Any

from typing_extensions import override

from envs.errors import ServerError
from envs.live import limit_notes, metrics
from envs.live.errors import (
    BatchLimitError,
    NoPluginError,
    ServerNotThereError,
    ServerReplacedError,
)
from envs.live.http_client import HttpClient
from envs.live.limit_control import LimitControl
from envs.live.limit_notes import LimitNote

PATH = "/v1/runtime_config"
CAPACITY, LIMIT = "max_num_seqs", "max_num_running_seqs"
_LOG = logging.getLogger(__name__)


class RuntimeConfig(LimitControl):
    """The batch limit of a server that has vLLM's own route for it.

    A server that was started again is told by the start time in its metrics.

    Args:
        client: Connection to the server.
        instance: The instance that changes are meant for.
        found: The limit to put back; ``None`` before it was read.
        ours: The limits that may be in force by our doing: the last one set, and the next.
    """

    route = PATH
    tells_effect = False

    def __init__(
        self,
        client: HttpClient,
        instance: str | None = None,
        found: int | None = None,
        ours: list[int] | None = None,
    ) -> None:
        self._client = client
        self.instance = instance
        self.found = found
        self._ours = list(ours or ())

    @property
    @override
    def plan(self) -> dict[str, Any]:
        return {
            "runtime_config": {
                "url": self._client.url,
                "headers": self._client.headers,
                "instance": self.instance,
                "found": self.found,
                "ours": self._ours,
            }
        }

    @override
    def read(self) -> dict[str, Any]:
        told = self._told()
        instance = self._instance()
        if instance != self.instance:
            if self.instance is not None:  # it was started again, and has a limit of its own
                limit_notes.clear(self.instance)
            self.instance, self.found, self._ours = instance, told[LIMIT], []
            note = limit_notes.read(instance)
            if note is not None and told[LIMIT] in note.ours:
                self.found, self._ours = note
        return {
            "max_num_seqs": told[LIMIT],
            "ceiling_num_seqs": told[CAPACITY],
            "scheduler": None,
            "effect_delay_s": None,
        }

    @override
    def check(self, told: dict[str, Any], mode: str) -> None:
        if mode != "drain":
            raise BatchLimitError(
                f"{self._client.url}{PATH}: this route drains and does not {mode}; set "
                "server.batch_limit=drain, or start the server with the plug-in"
            )

    @override
    def take(self, mode: str) -> None:
        self.check({}, mode)
        if self._ours and self._ours[-1] != self.found:
            _LOG.warning(
                "%s: a batch limit of %d was left by a controller that was killed with its guard; "
                "%d, which that one had found, counts as found",
                self._client.url, self._ours[-1], self.found,
            )  # fmt: skip

    @override
    def intend(self, max_num_seqs: int) -> None:
        if self.instance is None or self.found is None:
            self.read()
        assert self.instance is not None
        assert self.found is not None
        self._ours = [*self._ours[-1:], max_num_seqs]
        limit_notes.write(self.instance, LimitNote(self.found, self._ours))

    @override
    def set(self, *, max_num_seqs: int) -> dict[str, Any]:
        if self.instance is None:
            self.read()
        if self._instance() != self.instance:
            raise ServerReplacedError(f"{self._client.url}: the server was started again")
        if max_num_seqs not in self._ours[-1:]:
            self.intend(max_num_seqs)
        self._change(max_num_seqs)
        answer = self.read()
        if answer["max_num_seqs"] != max_num_seqs:
            raise BatchLimitError(
                f"{self._client.url}{PATH}: asked for {max_num_seqs}, and "
                f"{answer['max_num_seqs']} is in force; several API servers or data parallelism "
                "may not be served by this route"
            )
        return answer

    @override
    def renew(self, max_num_seqs: int, mode: str) -> None:
        """There is no lease, and a limit that an operator set meanwhile stays."""

    @override
    def release(self) -> None:
        if self.found is None or self.instance is None or not self._ours:
            return
        with contextlib.suppress(ServerNotThereError, NoPluginError):
            self._put_back(self.found)
        limit_notes.clear(self.instance)

    def _put_back(self, found: int) -> None:
        """Puts back what was found, unless another instance answers or others set a limit."""
        if self._instance() != self.instance:
            return
        now = self._told()[LIMIT]
        if now not in (*self._ours, found):
            _LOG.warning(
                "%s: its batch limit of %d was set by others; it stays", self._client.url, now
            )
            return
        self._change(found)

    def _change(self, limit: int) -> None:
        status, raw = self._client.call("PATCH", PATH, {LIMIT: limit})
        if status not in (200, 204):
            raise BatchLimitError(
                f"{self._client.url}{PATH}: answered {status}: {raw[:300].decode(errors='replace')}"
            )

    def _told(self) -> dict[str, int]:
        """Returns capacity and limit, from the answer's own keys or those of a part of it."""
        status, raw = self._client.call("GET", PATH)
        where = f"{self._client.url}{PATH}"
        if status in (404, 405):
            raise NoPluginError(f"{where}: this server has no such route")
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise BatchLimitError(f"{where}: answered {status} and garbage") from error
        if status != 200 or not isinstance(answer, dict):
            raise BatchLimitError(f"{where}: answered {status}: {answer}")
        for part in (answer, *(item for item in answer.values() if isinstance(item, dict))):
            if _is_limit(part.get(CAPACITY)) and _is_limit(part.get(LIMIT)):
                return {CAPACITY: int(part[CAPACITY]), LIMIT: int(part[LIMIT])}
        raise BatchLimitError(f"{where}: tells no {CAPACITY} and {LIMIT}")

    def _instance(self) -> str:
        start_s = metrics.fetch(self._client).start_time_s
        if start_s is None:
            raise BatchLimitError(
                f"{self._client.url}/metrics: tells no process_start_time_seconds, so that a "
                "server that was started again could not be told; use the plug-in instead"
            )
        return f"started {start_s}"


def is_offered(client: HttpClient) -> bool:
    """Whether a server has the route."""
    try:
        RuntimeConfig(client).read()
    except NoPluginError:
        return False
    except ServerError as error:
        _LOG.warning("the server's own route for its batch limit is not used: %s", error)
        return False
    return True


def _is_limit(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
