"""The simulated serving system."""

from __future__ import annotations

from typing_extensions import override

from envs.knobs import Knobs
from envs.latency import LatencyRecord
from envs.simulator.fleet import Fleet
from envs.simulator.server_spec import ServerSpec
from envs.system import ServingSystem
from envs.telemetry import COLUMN, MODELLED, Telemetry


class SimulatedServer(ServingSystem):
    """One simulated server: a :class:`~envs.simulator.fleet.Fleet` of one.

    Args:
        server_spec: The server to simulate.
        randomize: Draws the calibration again for every episode, within its uncertainty.

    Attributes:
        server_spec: The server that is simulated.
        telemetry_row: See :class:`envs.system.KeepsTelemetryRow`.
    """

    def __init__(self, server_spec: ServerSpec, *, randomize: bool = False) -> None:
        self.server_spec = server_spec
        self.knob_limits = server_spec.knob_limits
        self.num_gpus = server_spec.num_gpus
        self.capacity_tok_s = server_spec.capacity_tok_s
        self.rated_power_w = server_spec.rated_power_w
        self.offered_tok_s = server_spec.offered_tok_s
        self.system_power = server_spec.system_power
        self._fleet = Fleet([server_spec], randomize=randomize)
        self.telemetry_row = self._fleet.telemetry
        self._requested = self.knob_limits.highest
        self._fractions: list[float] = []

    @override
    def reset(self, seed: int) -> Telemetry:
        self._fleet.reset(0, seed)
        self._fractions = self._fleet.power_fractions[0].tolist()
        self._requested = self.knob_limits.highest
        return self._telemetry()

    @override
    def apply(self, knobs: Knobs) -> None:
        # Clipped here for the record of what was requested. The kernel, which many servers
        # give their knobs to directly, clips by the same rule (kernel/steps.py, _take_knobs).
        self._requested = self.knob_limits.clip(knobs)
        self._fleet.apply(self._requested)

    @override
    def set_slos(self, ttft_slo_s: float, tpot_slo_s: float) -> None:
        self._fleet.set_slos(ttft_slo_s, tpot_slo_s)

    @override
    def set_warmup(self, seconds: float) -> None:
        self._fleet.set_warmup(seconds)

    @override
    def advance(self, seconds: float) -> Telemetry:
        self._fleet.advance(seconds)
        return self._telemetry()

    @override
    def latency(self) -> LatencyRecord:
        return self._fleet.latency(0)

    def close(self) -> None:
        """Does nothing: a simulator holds nothing."""

    @property
    def engine_steps(self) -> int:
        """Engine steps simulated since reset."""
        return self._fleet.engine_steps

    def _telemetry(self) -> Telemetry:
        values = self.telemetry_row[0].tolist()
        power_w = values[COLUMN.power_w]
        gpus = tuple([power_w * fraction for fraction in self._fractions])
        return Telemetry.from_row(
            values, gpu_power_w=gpus, requested=self._requested, power_source=MODELLED
        )
