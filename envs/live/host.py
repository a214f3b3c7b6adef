"""The server's side: attached to or launched, found again after a failure, left as it was."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

from envs.errors import ConfigurationError, ServerError
from envs.live import metrics
from envs.live.config import VllmServerConfig
from envs.live.errors import NotVllmError, ServerDiedError, WrongKeyError
from envs.live.http_client import HttpClient
from envs.live.process import VllmProcess

_POLL_S = 0.2


class Host:
    """A running vLLM server.

    Args:
        config: Where it runs, or how to start it.

    Raises:
        ConfigurationError: Neither an address nor a model to launch is given.
    """

    def __init__(self, config: VllmServerConfig) -> None:
        if not config.url and not config.launch.model:
            raise ConfigurationError(
                "server: name a running server (server.url=http://127.0.0.1:8000) or start one "
                "(server.launch.model=/path/to/model server.launch.python=/path/to/venv)"
            )
        self._config = config
        self.process: VllmProcess | None = None
        if config.launch.model:
            self.process = VllmProcess(config.launch, config.vllm_arguments)
        url = self.process.url if self.process else str(config.url)
        if url.rstrip("/").endswith("/v1"):
            raise ConfigurationError(
                f"server.url: {url} has a /v1 at its end, as clients of the API take it; leave it "
                "out, since health, metrics and limits are beside it"
            )
        self.client = HttpClient.of(config, url)
        self.model = config.model or ""

    @property
    def url(self) -> str:
        """Address of the server."""
        return self.client.url

    @property
    def launched(self) -> bool:
        """Whether the server is ours to end and to start again."""
        return self.process is not None

    @property
    def pid(self) -> int | None:
        """Process of the API server, if known."""
        return self.process.pid if self.process else self._config.server_pid

    def start(self) -> None:
        """Starts the process, if the server is ours; it is not ready yet."""
        if self.process is not None:
            self.process.start()

    def connect(self) -> None:
        """Waits for a server of ours, looks whether anybody else's answers, asks its model.

        Raises:
            ServerError: It does not answer, or not as vLLM does.
        """
        if self.process is not None:
            self.process.wait_ready()
        status, _ = self.client.call("GET", "/health")
        if status == 404:
            self._models()  # tells what is missing
        if status != 200:
            raise ServerDiedError(f"{self.url}/health: answered {status}; the engine is not well")
        models = self._models()
        if not self.model:
            self.model = models[0]
        elif self.model not in models:
            raise ConfigurationError(
                f"server.model: {self.url} serves no {self.model!r}, but {', '.join(models)}"
            )

    def _models(self) -> list[str]:
        """Returns the models that the server lists."""
        status, body = self.client.call("GET", "/v1/models")
        if status in (401, 403):
            name = self._config.api_key_env
            held = "is refused" if self.client.headers else "is not set"
            raise WrongKeyError(
                f"{self.url}/v1/models: answered {status}: the server wants an API key, and the "
                f"one of the environment variable {name} (server.api_key_env) {held}"
            )
        try:
            names = [str(model["id"]) for model in json.loads(body)["data"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            names = []
        if status != 200 or not names:
            raise NotVllmError(
                f"{self.url}/v1/models: answered {status} and no list of models, so this is no "
                "vLLM server; server.url is vLLM's own address, without a path"
            )
        return names

    def check(self) -> None:
        """Checks that a process of ours still runs.

        Raises:
            ServerDiedError: It ended.
        """
        if self.process is not None:
            self.process.check()

    def recover(self, problem: ServerError) -> None:
        """Starts a server of ours again; waits for anybody else's to come back.

        Raises:
            ServerError: It did not come back; the problem itself, for an attached server.
        """
        if self.process is not None:
            self.process.stop()
            self.process.start()
            self.process.wait_ready()
            return
        deadline = time.monotonic() + self._config.recovery_timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(ServerError):
                if self.client.call("GET", "/health")[0] == 200:
                    metrics.fetch(self.client)
                    return
            time.sleep(_POLL_S)
        raise problem

    def describe(self) -> dict[str, Any]:
        """Returns what is known of the server, for the record."""
        version = self.client.get_json("/version") or {}
        facts: dict[str, Any] = {
            "url": self.url,
            "launched": self.launched,
            "model": self.model,
            "vllm_version": version.get("version"),
        }
        if self.process is not None:
            facts |= {
                "command": self.process.command,
                "prefix_caching": False,
                "log": str(self.process.log),
            }
        return facts

    def close(self) -> None:
        """Ends a server of ours; leaves anybody else's alone."""
        if self.process is not None:
            self.process.stop()
