"""Many simulated servers stepped by one compiled call."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.knobs import Knobs
from envs.latency import LatencyRecord
from envs.simulator.engine import Engine
from envs.simulator.server_spec import ServerSpec

FloatArray = NDArray[np.float64]


class Fleet:
    """Simulated servers in lockstep, each with its own plant, workload and episode.

    Args:
        plants: One plant a server; the same object may stand in many places.
        randomize: Draws each server's calibration again for every episode.
        latency: Whether :meth:`latency` can be asked for; counting costs time.
    """

    def __init__(
        self, server_specs: list[ServerSpec], *, randomize: bool = False, latency: bool = True
    ) -> None:
        self.server_specs = server_specs
        self._randomize = randomize
        self.engine = Engine([server_spec.spec for server_spec in server_specs], latency=latency)
        most = max(server_spec.num_gpus for server_spec in server_specs)
        self.power_fractions = np.zeros((len(server_specs), most))
        """Fraction of each GPU in its server's power, shape ``(num_envs, most GPUs)``."""

    def reset(self, index: int, seed: int) -> None:
        """Starts an episode of server ``index``; every draw of it follows from ``seed``."""
        server_spec = self.server_specs[index]
        arrivals, physics, devices = np.random.default_rng(seed).spawn(3)
        spread = server_spec.coefficients.device_spread
        if self._randomize:
            drawn = server_spec.randomized(physics)
            spread = drawn.device_spread
            self.engine.randomize(
                index,
                drawn.step_model,
                cap_settling_s=drawn.cap_settling_s,
                sensor_window_s=drawn.sensor_window_s,
                system_power=drawn.system_power,
            )
        factors = 1.0 + spread * devices.standard_normal(server_spec.num_gpus)
        factors = np.maximum(factors, 0.5)
        self.power_fractions[index, : server_spec.num_gpus] = factors / factors.sum()
        stream = server_spec.workload.stream(arrivals, server_spec.rate_per_s)
        self.engine.reset(index, stream, server_spec.workload.concurrency)

    def apply(self, knobs: Knobs) -> None:
        """Asks for knobs, shape ``(num_envs,)`` each; each server clips them to its limits."""
        self.engine.apply(knobs)

    def set_slos(self, ttft_slo_s: Any, tpot_slo_s: Any) -> None:
        """Sets the latency SLOs of each server (seconds)."""
        self.engine.set_slos(ttft_slo_s, tpot_slo_s)

    def set_warmup(self, seconds: Any) -> None:
        """Leaves requests that arrive before ``seconds`` out of :meth:`latency`."""
        self.engine.set_warmup(seconds)

    def advance(self, seconds: float, which: NDArray[np.int64] | None = None) -> FloatArray:
        """Lets time pass on all servers, or on some of them.

        Returns:
            Telemetry of all, shape ``(num_envs, len(NUMERIC_FIELDS))``, valid until the next
            call.
        """
        return self.engine.advance(seconds, which)

    def latency(self, index: int) -> LatencyRecord:
        """Latencies of server ``index`` since its warm-up."""
        return self.engine.latency(index)
