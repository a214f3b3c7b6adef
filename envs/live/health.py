"""Tells a server that failed from one that is merely busy."""

from __future__ import annotations

import logging
import time

from envs.errors import ServerError
from envs.live import metrics
from envs.live.config import VllmServerConfig
from envs.live.errors import ServerDiedError, ServerHangsError
from envs.live.host import Host
from envs.live.metrics import Snapshot

_LOG = logging.getLogger(__name__)
_PAUSE_S = 0.2


class Health:
    """Watches one server.

    Args:
        config: How much to forgive.
        host: The server.
    """

    def __init__(self, config: VllmServerConfig, host: Host) -> None:
        self._config = config
        self._host = host
        self._metrics_failures = 0
        self._refused = 0
        self._progress_s = time.monotonic()

    def restart(self) -> None:
        """Forgets the past: the server is new or empty."""
        self._refused = 0
        self._progress_s = time.monotonic()

    def take_metrics_failures(self) -> int:
        """Returns how many readings of the metrics failed since the last call."""
        count, self._metrics_failures = self._metrics_failures, 0
        return count

    def read_metrics(self) -> Snapshot:
        """Reads the metrics, a few times if need be.

        Raises:
            ServerError: Every attempt failed, or the server's process ended.
        """
        attempt = 1
        while True:
            self._host.check()
            try:
                return metrics.fetch(self._host.client)
            except ServerError as error:
                self._metrics_failures += 1
                self._host.check()  # a process that ended explains more than a broken call
                if attempt == self._config.metrics_attempts:
                    raise
                _LOG.warning("metrics, attempt %d: %s", attempt, error)
            attempt += 1
            time.sleep(_PAUSE_S)

    def check_requests(self, failures: list[ServerError], answered: bool) -> None:
        """Evaluates our failed requests of an interval.

        Args:
            failures: Why each failed.
            answered: Whether any request got tokens meanwhile.

        Raises:
            ServerError: So many failed in a row that the server counts as failed, or its
                engine is dead.
        """
        if answered:
            self._refused = 0
        if not failures:
            return
        self._refused += len(failures)
        status, _ = self._host.client.call("GET", "/health")
        if status != 200:
            self._host.check()
            raise ServerDiedError(
                f"{self._host.url}/health: answered {status}; {failures[0]}"
            ) from failures[0]
        if self._refused >= self._config.refused_limit:
            raise failures[0]

    def check_progress(self, busy: bool, progress: bool) -> None:
        """Checks that a busy server gets on.

        Args:
            busy: Whether requests run or wait.
            progress: Whether any token was computed since the last call.

        Raises:
            ServerHangsError: It was busy for too long without a token.
        """
        now = time.monotonic()
        if progress or not busy:
            self._progress_s = now
        elif now - self._progress_s > self._config.stall_timeout_s:
            raise ServerHangsError(
                f"{self._host.url}: requests are in flight and no token was computed for "
                f"{now - self._progress_s:.1f} s (server.stall_timeout_s); the engine hangs"
            )
