"""The simulated serving system."""

from __future__ import annotations

import numpy as np

from envs.knobs import Knobs
from envs.latency import LatencyRecord
from envs.simulator.engine import Engine
from envs.simulator.plant import Plant
from envs.telemetry import MODELLED, Telemetry


class SimulatedServer:
    """One simulated server; implements :class:`envs.system.ServingSystem`.

    Args:
        plant: The server to simulate.
        randomize: Draws the calibration anew for every episode, within its doubt.
    """

    def __init__(self, plant: Plant, *, randomize: bool = False) -> None:
        self.plant = plant
        self.knob_limits = plant.limits
        self.num_gpus = plant.num_gpus
        self.capacity_tok_s = plant.saturated.output_tok_s
        self.rated_power_w = plant.saturated.power_w
        self.offered_tok_s = plant.offered_tok_s
        self.system_power = plant.system_power
        self._randomize = randomize
        self._engine = Engine([plant.spec], jump=not plant.server.exact_steps)
        self._requested = plant.limits.highest
        self._shares = np.full(self.num_gpus, 1.0 / self.num_gpus)

    def reset(self, seed: int) -> Telemetry:
        """See :meth:`ServingSystem.reset`."""
        rng = np.random.default_rng(seed)
        arrivals, physics, devices = rng.spawn(3)
        if self._randomize:
            self._engine.randomize(0, *self.plant.randomized(physics))
        spread = self.plant.coefficients.device_spread
        factors = np.maximum(1.0 + spread * devices.standard_normal(self.num_gpus), 0.5)
        self._shares = factors / factors.sum()
        stream = self.plant.workload.stream(arrivals, self.plant.rate_per_s)
        self._engine.reset(0, stream, self.plant.workload.concurrency)
        self._requested = self.knob_limits.highest
        return self._telemetry()

    def apply(self, knobs: Knobs) -> None:
        """See :meth:`ServingSystem.apply`."""
        self._requested = clipped = self.knob_limits.clip(knobs)
        clock = 1.0
        if clipped.sm_clock_mhz is not None:
            clock = clipped.sm_clock_mhz / self.knob_limits.sm_clock_max_mhz
        self._engine.apply(clipped.power_cap_w, clipped.max_num_seqs, clock)

    def set_slos(self, ttft_slo_s: float, tpot_slo_s: float) -> None:
        """See :meth:`ServingSystem.set_slos`."""
        self._engine.set_slos(ttft_slo_s, tpot_slo_s)

    def set_warmup(self, seconds: float) -> None:
        """See :meth:`ServingSystem.set_warmup`."""
        self._engine.set_warmup(seconds)

    def advance(self, seconds: float) -> Telemetry:
        """See :meth:`ServingSystem.advance`."""
        self._engine.advance(seconds)
        return self._telemetry()

    def latency(self) -> LatencyRecord:
        """See :meth:`ServingSystem.latency`."""
        return self._engine.latency(0)

    def close(self) -> None:
        """See :meth:`ServingSystem.close`; a simulator holds nothing."""

    @property
    def engine_steps(self) -> int:
        """Engine steps simulated since reset."""
        return self._engine.engine_steps

    def _telemetry(self) -> Telemetry:
        values = self._engine.telemetry[0].tolist()
        power_w = values[27]
        return Telemetry(
            *values,
            tuple((power_w * self._shares).tolist()),
            self._requested,
            MODELLED,
        )
