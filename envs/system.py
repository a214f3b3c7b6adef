"""The plant's contract: what a simulator and a live server have in common."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from envs.knobs import KnobLimits, Knobs
from envs.latency import LatencyRecord
from envs.telemetry import Telemetry


@runtime_checkable
class ServingSystem(Protocol):
    """An LLM server under control.

    Attributes:
        knob_limits: The range of each knob.
        num_gpus: GPUs the server uses (tensor-parallel size times data-parallel size).
        capacity_tok_s: Output tokens per second of the Baseline strategy (highest cap,
            largest batch) when the server is saturated with this workload. It scales
            observations, targets and loads.
        rated_power_w: Power of all GPUs together in that state.
        offered_tok_s: Output tokens per second that the workload asks for on average.
        system_power: ``(alpha, beta_w)`` of ``P_sys = alpha * sum(P_gpu) + beta``.
    """

    knob_limits: KnobLimits
    num_gpus: int
    capacity_tok_s: float
    rated_power_w: float
    offered_tok_s: float
    system_power: tuple[float, float]

    def reset(self, seed: int) -> Telemetry:
        """Starts an episode: empties the server of our requests and sets the highest knobs.

        Args:
            seed: Seed of every random draw of the episode.

        Returns:
            Telemetry at time 0.
        """

    def apply(self, knobs: Knobs) -> None:
        """Asks for new knobs; they take effect as fast as the real knob does."""

    def set_slos(self, ttft_slo_s: float, tpot_slo_s: float) -> None:
        """Sets the latency SLOs that requests are evaluated by from now on (seconds)."""

    def advance(self, seconds: float) -> Telemetry:
        """Lets ``seconds`` pass and reports what was observed.

        Raises:
            ServerError: The server died, hangs, or answers garbage; never a made-up reading.
        """

    def latency(self) -> LatencyRecord:
        """Distribution of latencies over all requests that arrived after the warm-up."""

    def set_warmup(self, seconds: float) -> None:
        """Leaves requests that arrive before ``seconds`` out of :meth:`latency`."""

    def close(self) -> None:
        """Releases the server and puts back every knob that was changed."""
