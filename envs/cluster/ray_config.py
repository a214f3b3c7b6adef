"""Configuration of a server in a Ray actor (``server=ray``)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from envs.fields import Checked
from envs.quantities import Bytes, NotNegative, Seconds
from envs.scenario import Scenario, described


@dataclass(kw_only=True)
class RayServerConfig(Checked):
    """A server, with its power device, that runs in a Ray actor on its own machine.

    Attributes:
        inner: The server itself: simulated or live.
        address: Ray cluster to join, such as ``auto`` or ``ray://head:10001``; ``None`` takes
            the one this process has joined, or starts one on this machine.
        resources: Custom resources that the actor needs; they place a node's actor on its
            machine (``ray start --resources='{"node0": 1}'``).
        num_cpus: CPU cores reserved for the actor.
        num_gpus: GPUs reserved for the actor; a live server's device manages its own.
        start_timeout_s: Longest time for a node to start.
        call_timeout_s: Longest time for an answer, beyond the time an interval takes. ``None``:
            one control interval for a live server, so that a node that hangs is detected and its
            budget goes to other nodes within two, and 60 s for a simulated one.
        object_store_bytes: Memory of the object store if Ray is started by this process.
    """

    config_key: ClassVar[str] = "server"

    is_simulated: ClassVar[bool] = False

    inner: Any = None
    address: str | None = None
    resources: dict[str, NotNegative] = field(default_factory=dict)
    num_cpus: NotNegative = 0.0
    num_gpus: NotNegative = 0.0
    start_timeout_s: Seconds = 300.0
    call_timeout_s: Seconds | None = None
    object_store_bytes: Bytes = 100_000_000


def server_itself(scenario: Scenario) -> Scenario:
    """Returns the scenario of the server itself where it runs in another process.

    What a profile or a reference depends on is the server, not the place it runs in.
    """
    if not isinstance(scenario.server_config, RayServerConfig):
        return scenario
    inner = described("server", scenario.server)["inner"]
    return replace(scenario, server="simulated" if inner is None else inner)
