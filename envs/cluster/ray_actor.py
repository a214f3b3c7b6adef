"""The part of a node that runs on its own machine: the server, behind a Ray actor."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import NamedTuple

from envs.knobs import KnobLimits, Knobs
from envs.latency import LatencyRecord
from envs.live.devices.processes import start_ticks
from envs.scenario import Scenario
from envs.serving import ServingEnv
from envs.telemetry import Telemetry


class Place(NamedTuple):
    """Identifies the process of an actor.

    Attributes:
        node_id: Ray's name of its machine.
        pid: Its process id there.
        started: When it began, in the kernel's ticks, because process ids are reused.
    """

    node_id: str
    pid: int
    started: int | None


class ServerFacts(NamedTuple):
    """What a coordinator needs to know about a server; see :class:`envs.system.ServingSystem`.

    Attributes:
        knob_limits: The range of each knob.
        num_gpus: GPUs of the server.
        capacity_tok_s: Baseline's saturated throughput.
        rated_power_w: Power in that state.
        offered_tok_s: Output tokens/s that the workload offers.
        system_power: ``(alpha, beta_w)``.
        power_caps_w: Caps that controllers choose from.
        place: The process that owns the server.
    """

    knob_limits: KnobLimits
    num_gpus: int
    capacity_tok_s: float
    rated_power_w: float
    offered_tok_s: float
    system_power: tuple[float, float]
    power_caps_w: list[float]
    place: Place


class ServerActor:
    """Owns a server; every method is one message, :meth:`build` the first.

    The server is not built in the constructor, because Ray reports a failed constructor as text
    without the type of the error.
    """

    def build(self, build: Callable[[Scenario], ServingEnv], scenario: Scenario) -> ServerFacts:
        """Builds the server and returns what does not change.

        Args:
            build: Builds the environment around the server.
            scenario: The scenario of the server.
        """
        import ray

        self._env = build(scenario)
        system = self._system = self._env.system
        pid = os.getpid()
        place = Place(ray.get_runtime_context().get_node_id(), pid, start_ticks(pid))
        return ServerFacts(
            system.knob_limits,
            system.num_gpus,
            system.capacity_tok_s,
            system.rated_power_w,
            system.offered_tok_s,
            system.system_power,
            list(self._env.context.grid.power_caps_w),
            place,
        )

    def reset(self, seed: int, warmup_s: float) -> Telemetry:
        """Starts an episode."""
        self._system.set_warmup(warmup_s)
        telemetry: Telemetry = self._system.reset(seed)
        return telemetry

    def advance(
        self, knobs: Knobs | None, slos: tuple[float, float] | None, seconds: float
    ) -> tuple[Telemetry, dict[str, float]]:
        """Sets knobs and SLOs that have changed, lets time pass and returns the telemetry."""
        if slos is not None:
            self._system.set_slos(*slos)
        if knobs is not None:
            self._system.apply(knobs)
        telemetry: Telemetry = self._system.advance(seconds)
        return telemetry, dict(self._system.extras)

    def latency(self) -> LatencyRecord:
        """Returns the latencies of the episode."""
        record: LatencyRecord = self._system.latency()
        return record

    def close(self) -> None:
        """Releases the server; a live one gets its knobs back."""
        self._env.close()


def end(place: Place) -> None:
    """Ends an actor's process; it has to run on the actor's machine.

    Ray ends an actor by a message, which a process that hangs does not read. Until the process
    has ended, its guard waits and restores nothing.
    """
    if start_ticks(place.pid) == place.started:
        os.kill(place.pid, signal.SIGKILL)
