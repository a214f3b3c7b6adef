"""Which way a server offers to change its batch limit is found out by asking it."""

from __future__ import annotations

from envs.live import runtime_config
from envs.live.batch_limit import BatchLimit
from envs.live.errors import NoPluginError
from envs.live.http_client import HttpClient
from envs.live.limit_control import LimitControl


def limit_control_of(client: HttpClient) -> LimitControl:
    """Returns the control of a server's batch limit.

    The plug-in is preferred: it knows leases, preemption, and when a limit is felt. A server
    without it may have vLLM's own route.

    Raises:
        NoPluginError: It has neither.
        ServerError: It does not answer.
    """
    plugin = BatchLimit(client)
    try:
        plugin.read()
    except NoPluginError:
        if not runtime_config.is_offered(client):
            raise
        return runtime_config.RuntimeConfig(client)
    return plugin
