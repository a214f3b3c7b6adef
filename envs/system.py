"""The contract of a serving system: what a simulator and a live server have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from envs.knobs import KnobLimits, Knobs
from envs.latency import LatencyRecord
from envs.telemetry import Telemetry

_NONE: Mapping[str, Any] = MappingProxyType({})


class RatedServer(Protocol):
    """What is known about a server before it runs: its size and Baseline's throughput on it."""

    @property
    def knob_limits(self) -> KnobLimits:
        """The range of each knob."""

    @property
    def num_gpus(self) -> int:
        """GPUs the server uses (tensor-parallel size times data-parallel size)."""

    @property
    def capacity_tok_s(self) -> float:
        """Output tokens per second of the Baseline strategy on the saturated server.

        Baseline runs at the highest cap with the largest batch, on this workload. It scales
        observations, targets and loads.
        """

    @property
    def rated_power_w(self) -> float:
        """Power of all GPUs together in that state."""

    @property
    def offered_tok_s(self) -> float:
        """Output tokens per second that the workload offers on average."""

    @property
    def system_power(self) -> tuple[float, float]:
        """``(alpha, beta_w)`` of ``P_sys = alpha * sum(P_gpu) + beta``."""


@runtime_checkable
class ServingSystem(Protocol):
    """An LLM server under control; a :class:`RatedServer` that runs.

    Attributes:
        extras: Facts of the last interval that only this kind of server has, as plain numbers
            by name; the record of a run has them beside the telemetry.
        facts: Facts about server and device, for the record of a run.
        events: Failures from which the server has recovered, for the same record.
    """

    knob_limits: KnobLimits
    num_gpus: int
    capacity_tok_s: float
    rated_power_w: float
    offered_tok_s: float
    system_power: tuple[float, float]
    extras: Mapping[str, float] = _NONE
    facts: Mapping[str, Any] = _NONE
    events: Sequence[Mapping[str, Any]] = ()

    def reset(self, seed: int) -> Telemetry:
        """Starts an episode: empties the server of our requests and sets the highest knobs.

        Args:
            seed: Seed of every random draw of the episode.

        Returns:
            Telemetry at time 0.
        """

    def apply(self, knobs: Knobs) -> None:
        """Asks for new knobs; they take effect as fast as the real knob does.

        The server moves knobs outside its limits to the nearest value that it accepts.
        """

    def set_slos(self, ttft_slo_s: float, tpot_slo_s: float) -> None:
        """Sets the latency SLOs that requests are evaluated by from now on (seconds)."""

    def advance(self, seconds: float) -> Telemetry:
        """Lets ``seconds`` pass and reports what was observed.

        Raises:
            ServerError: The server died, hangs, or answers garbage; telemetry is never made up.
        """

    def latency(self) -> LatencyRecord:
        """Distribution of latencies over all requests that arrived after the warm-up."""

    def set_warmup(self, seconds: float) -> None:
        """Leaves requests that arrive before ``seconds`` out of :meth:`latency`."""

    def close(self) -> None:
        """Releases the server and restores every knob that was changed."""


@runtime_checkable
class Forkable(Protocol):
    """A system that can be copied in the middle of an episode: a simulated one."""

    def fork(self) -> ServingSystem:
        """Returns a copy that goes on exactly as this one does, and apart from it."""


@runtime_checkable
class KeepsTelemetryRow(Protocol):
    """A system that keeps the numbers of its last telemetry in one array.

    Attributes:
        telemetry_row: The numbers in the order of :data:`~envs.telemetry.NUMERIC_FIELDS`,
            shape ``(1, NUM_TELEMETRY)``; the same memory throughout.
    """

    telemetry_row: NDArray[np.float64]

    def run(self, seconds: float) -> None:
        """Lets time pass as ``advance`` does, and makes no telemetry but the row."""

    def later(self) -> Callable[[], Telemetry]:
        """Returns what makes the telemetry of the row as it is now, at any later time."""
