"""The simulated serving system."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from envs.knobs import Knobs
from envs.latency import LatencyRecord
from envs.simulator.savable import SavableFleet
from envs.simulator.server_spec import ServerSpec
from envs.simulator.snapshot import Snapshot
from envs.system import Forkable, ServingSystem
from envs.telemetry import COLUMN, MODELLED, Telemetry


class SavedServer(NamedTuple):
    """A simulated server's state.

    Attributes:
        state: Its state in the engine.
        requested: The knobs requested last.
    """

    state: Snapshot
    requested: Knobs


class SimulatedServer(ServingSystem, Forkable):
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
        self._randomize = randomize
        self._fleet = SavableFleet([server_spec], randomize=randomize)
        self.telemetry_row = self._fleet.telemetry
        self._row = self.telemetry_row[0]
        self._requested = self.knob_limits.highest
        self._asked: Knobs | None = None
        self._fractions: list[float] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Has a copy look at its own row of telemetry."""
        self.__dict__.update(state)
        self.telemetry_row = self._fleet.telemetry
        self._row = self.telemetry_row[0]

    @override
    def reset(self, seed: int) -> Telemetry:
        self._fleet.reset(0, seed)
        self._fractions = self._fleet.power_fractions[0].tolist()
        self._requested = self.knob_limits.highest
        self._asked = None
        return self._telemetry()

    @override
    def apply(self, knobs: Knobs) -> None:
        # Clipped here for the record of what was requested. The kernel, which many servers
        # give their knobs to directly, clips by the same rule (kernel/steps.py, _take_knobs).
        if knobs is self._asked:
            return  # as they were
        self._asked = knobs
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

    def run(self, seconds: float) -> None:
        """Lets time pass; see :class:`envs.system.KeepsTelemetryRow`."""
        self._fleet.advance(seconds)

    def later(self) -> Callable[[], Telemetry]:
        """Returns what makes this interval's telemetry; see the same."""
        return partial(_telemetry, self._row.copy(), self._fractions, self._requested)

    @override
    def latency(self) -> LatencyRecord:
        return self._fleet.latency(0)

    def close(self) -> None:
        """Does nothing: a simulator holds nothing."""

    @property
    def randomizes(self) -> bool:
        """Whether the calibration is drawn again for every episode."""
        return self._fleet.randomizes

    @property
    def engine_steps(self) -> int:
        """Engine steps simulated since reset."""
        return self._fleet.engine_steps

    def snapshot(self) -> SavedServer:
        """Saves the state between two intervals."""
        return SavedServer(self._fleet.snapshot(), self._requested)

    def restore(self, saved: SavedServer) -> None:
        """Goes back to a saved state, of this server or of one like it.

        Raises:
            ValueError: The state is of a server of another size.
        """
        self._fleet.restore(saved.state)
        self._requested, self._asked = saved.requested, None
        self._fractions = saved.state.fractions[: self.num_gpus].tolist()

    @override
    def fork(self) -> SimulatedServer:
        fork = SimulatedServer(self.server_spec, randomize=self._randomize)
        fork.restore(self.snapshot())
        return fork

    def _telemetry(self) -> Telemetry:
        return _telemetry(self._row, self._fractions, self._requested)


def _telemetry(row: NDArray[np.float64], fractions: list[float], requested: Knobs) -> Telemetry:
    """Returns telemetry in plain numbers; the power of each GPU is its fraction of the whole."""
    values = row.tolist()
    power_w = values[COLUMN.power_w]
    gpus = tuple([power_w * fraction for fraction in fractions])
    return Telemetry.from_row(values, gpu_power_w=gpus, requested=requested, power_source=MODELLED)
