"""Locking the SM clock instead of capping power (arXiv:2605.11999)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from typing_extensions import override

from baselines.base import KnobController, Preparation
from baselines.budget import caps_within
from baselines.profile import Profile
from envs.context import ControlContext
from envs.errors import ConfigurationError
from envs.knobs import Knobs
from envs.observations import Observation
from envs.quantities import FractionBelowOne, Gain


class _Clock(NamedTuple):
    """A clock of the grid and what the profile says about it at the largest batch."""

    clock_mhz: float | None
    throughput_tok_s: float
    tokens_per_joule: float


@dataclass(kw_only=True)
class ClockLock(KnobController):
    """Locks the clock that an offline sweep found to cost the least energy per token.

    arXiv:2605.11999 argues that decoding rarely reaches a power cap, and that locking the SM
    clock saves energy at little loss of throughput where a cap does nothing. The clock follows
    from the profile: its rows at the largest batch give throughput and power against the
    mean clock, with interpolation in between; clocks slower than any of them are not used.
    The lock is the most efficient clock that keeps throughput at saturation within
    ``max_loss`` of a free clock's, or above the target by ``headroom`` where that is less.
    The cap stays the highest that the budget leaves, the batch limit the highest.

    Needs ``action.sm_clock=true``.

    Attributes:
        max_loss: Loss of saturated throughput that is accepted, as a fraction.
        headroom: Saturated throughput wanted above the target, as a fraction of the target;
            arrivals come in bursts, and a server without slack falls behind.
    """

    max_loss: FractionBelowOne = 0.05
    headroom: Gain = 0.2

    @override
    def bind(self, context: ControlContext) -> None:
        """Binds the controller to a server whose clock is a knob.

        Raises:
            ConfigurationError: The clock is not a knob of the action encoding.
        """
        super().bind(context)
        if not context.grid.sm_clocks_mhz:
            raise ConfigurationError(
                "controller=clock_lock sets the SM clock: it needs action.sm_clock=true"
            )
        self._clocks: list[_Clock] = []

    def prepare(self, preparation: Preparation) -> None:
        """Interpolates throughput and efficiency against the clock from the profile."""
        clock, throughput, power = _sweep(preparation.profile())
        grid = self.context.grid.sm_clocks_mhz
        top = _Clock(None, float(throughput[-1]), float(throughput[-1] / power[-1]))
        locked = [mhz for mhz in grid[:-1] if clock[0] <= mhz <= clock[-1]]
        rates = np.interp(locked, clock, throughput)
        watts = np.interp(locked, clock, power)
        self._clocks = [
            top,
            *(
                _Clock(mhz, float(rate), float(rate / watt))
                for mhz, rate, watt in zip(locked, rates, watts, strict=True)
            ),
        ]

    @override
    def decide(self, observation: Observation, state: Any) -> tuple[Knobs, Any]:
        if not self._clocks:
            raise ConfigurationError("controller: prepare() must be called before predict()")
        target = observation.target_tok_s
        wanted = (1.0 - self.max_loss) * self._clocks[0].throughput_tok_s
        wanted = min(wanted, (1.0 + self.headroom) * target if target > 0 else math.inf)
        fast_enough = [clock for clock in self._clocks if clock.throughput_tok_s >= wanted]
        best = max(fast_enough, key=lambda clock: clock.tokens_per_joule)
        grid = self.context.grid
        cap = grid.power_caps_w[caps_within(self.context, observation) - 1]
        return Knobs(cap, grid.max_num_seqs[-1], best.clock_mhz), None


def _sweep(profile: Profile) -> tuple[Any, Any, Any]:
    """Returns clock, throughput and power at the largest batch, by ascending clock."""
    rows = profile.in_use
    largest = max(row.max_num_seqs for row in rows)
    points = sorted(
        (row.sm_clock_mhz, row.throughput_tok_s, row.power_w)
        for row in rows
        if row.max_num_seqs == largest
    )
    return tuple(np.array(points).T)
