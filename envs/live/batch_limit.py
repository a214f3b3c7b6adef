"""Talks to the batch-limit plug-in inside of the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from envs.live.errors import BatchLimitError
from envs.live.http_client import HttpClient

PATH = "/pals/batch_limit"
PLUGIN_DIR = Path(__file__).resolve().parent / "vllm_plugin"
ARGUMENTS = (
    "--scheduler-cls", "pals_batch_limit.scheduler.BatchLimitScheduler",
    "--middleware", "pals_batch_limit.route.BatchLimitRoute",
)  # fmt: skip
"""What a server is started with, ``PLUGIN_DIR`` being on its ``PYTHONPATH``."""


class BatchLimit:
    """Reads and changes the batch limit of one server.

    Args:
        client: Connection to the server.
    """

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    def read(self) -> dict[str, Any]:
        """Returns the limits in force, as the plug-in tells them.

        Raises:
            BatchLimitError: The plug-in is not there, or refuses.
        """
        return self._call("GET", None)

    def set(self, **changes: Any) -> dict[str, Any]:
        """Changes ``max_num_seqs``, ``max_num_batched_tokens`` or ``mode``.

        Returns:
            The limits in force afterwards.

        Raises:
            BatchLimitError: The plug-in is not there, or refuses.
        """
        return self._call("PUT", changes)

    def _call(self, method: str, body: dict[str, Any] | None) -> dict[str, Any]:
        status, raw = self._client.call(method, PATH, body)
        where = f"{self._client.url}{PATH}"
        if status == 404:
            raise BatchLimitError(
                f"{where}: this server has no batch-limit plug-in. Start it with "
                f"PYTHONPATH={PLUGIN_DIR} and {' '.join(ARGUMENTS)}, or leave the batch limit "
                "alone: server.batch_limit=off"
            )
        try:
            answer = json.loads(raw)
        except ValueError as error:
            raise BatchLimitError(f"{where}: answered {status} and garbage") from error
        if status != 200 or not isinstance(answer, dict):
            raise BatchLimitError(f"{where}: answered {status}: {answer}")
        return answer
