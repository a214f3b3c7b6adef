"""The simulated serving system."""

from __future__ import annotations

from envs.knobs import Knobs
from envs.latency import LatencyRecord
from envs.simulator.fleet import Fleet
from envs.simulator.server_spec import Plant
from envs.telemetry import MODELLED, NUMERIC_FIELDS, Telemetry

_POWER = NUMERIC_FIELDS.index("power_w")


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
        self._fleet = Fleet([plant], randomize=randomize)
        self.telemetry_row = self._fleet.engine.telemetry
        """Numbers of the last telemetry, shape ``(1, len(NUMERIC_FIELDS))``."""
        self._requested = plant.limits.highest
        self._shares: list[float] = []

    def reset(self, seed: int) -> Telemetry:
        """See :meth:`ServingSystem.reset`."""
        self._fleet.reset(0, seed)
        self._shares = self._fleet.power_shares[0].tolist()
        self._requested = self.knob_limits.highest
        return self._telemetry()

    def apply(self, knobs: Knobs) -> None:
        """See :meth:`ServingSystem.apply`."""
        self._requested = self.knob_limits.clip(knobs)
        self._fleet.apply(knobs)

    def set_slos(self, ttft_slo_s: float, tpot_slo_s: float) -> None:
        """See :meth:`ServingSystem.set_slos`."""
        self._fleet.set_slos(ttft_slo_s, tpot_slo_s)

    def set_warmup(self, seconds: float) -> None:
        """See :meth:`ServingSystem.set_warmup`."""
        self._fleet.set_warmup(seconds)

    def advance(self, seconds: float) -> Telemetry:
        """See :meth:`ServingSystem.advance`."""
        self._fleet.advance(seconds)
        return self._telemetry()

    def latency(self) -> LatencyRecord:
        """See :meth:`ServingSystem.latency`."""
        return self._fleet.latency(0)

    def close(self) -> None:
        """See :meth:`ServingSystem.close`; a simulator holds nothing."""

    @property
    def engine_steps(self) -> int:
        """Engine steps simulated since reset."""
        return self._fleet.engine.engine_steps

    def _telemetry(self) -> Telemetry:
        values = self.telemetry_row[0].tolist()
        power_w = values[_POWER]
        gpus = tuple([power_w * share for share in self._shares])
        return Telemetry._make([*values, gpus, self._requested, MODELLED])
