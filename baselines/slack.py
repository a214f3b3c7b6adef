"""The clock or cap follows the latency slack: as slow as the time per token allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from baselines.base import KnobController, Preparation
from baselines.budget import caps_within
from baselines.speed_levels import SpeedLevels
from envs.context import ControlContext
from envs.errors import ConfigurationError
from envs.knobs import Knobs
from envs.observations import Observation
from envs.quantities import Factor, FractionBelowOne, PositiveFraction, SecondsOrNone

FloatArray = NDArray[np.float64]


class _State(NamedTuple):
    """Level in force and how long a lower one has been enough."""

    level: int
    calm_s: float


@dataclass(kw_only=True)
class Slack(KnobController):
    """Takes the slowest level whose predicted time per token leaves slack, every interval.

    This is the decode rule of DualScale (arXiv:2602.18755): the latency of a batch at each
    frequency is known from a profile, and the lowest that keeps the latency objective is taken.
    Levels are the clocks of the grid where the clock is a knob, and its caps where it is not. Where
    no TPOT SLO is set, ``stretch`` times the time per token at full speed stands in for it.

    Its decode servers have no prompts to compute; here one server does both. So full speed is used
    while the oldest request has waited for more than a part of its TTFT SLO.

    Attributes:
        margin: Part of the SLO that is left unused, against prediction errors.
        stretch: Time per token over that at full speed, where there is no SLO.
        ttft_part: Part of the TTFT SLO after which a waiting request calls for full speed.
        patience_s: The same in seconds where there is no TTFT SLO.
        hold_s: Time in seconds that a lower level must have been enough before it is taken.
    """

    adjustable = frozenset({"margin", "stretch", "ttft_part", "patience_s", "hold_s"})

    margin: FractionBelowOne = 0.1
    stretch: Factor = 1.3
    ttft_part: PositiveFraction = 0.5
    patience_s: SecondsOrNone = 0.5
    hold_s: SecondsOrNone = 1.0

    @override
    def bind(self, context: ControlContext) -> None:
        super().bind(context)
        self._levels = SpeedLevels(context.grid)
        self._seqs: FloatArray | None = None

    def prepare(self, preparation: Preparation) -> None:
        """Tabulates the time per token by level and running requests from the profile."""
        rows = preparation.profile().in_use
        levels = self._levels
        self._seqs = np.array(sorted({row.max_num_seqs for row in rows}), dtype=np.float64)
        table = []
        for seqs in self._seqs:
            own = sorted(
                (row.sm_clock_mhz if levels.by_clock else row.power_cap_w, row.tpot_s)
                for row in rows
                if row.max_num_seqs == seqs
            )
            known, tpot_s = np.array(own).T
            table.append(np.interp(levels.values, known, tpot_s))
        self._tpot_s = np.array(table)

    @override
    def decide(self, observation: Observation, state: _State | None) -> tuple[Knobs, Any]:
        if self._seqs is None:
            raise ConfigurationError("controller: prepare() must be called before predict()")
        last = state or _State(self._tpot_s.shape[1] - 1, 0.0)
        needed = self._needed(observation)
        level, calm_s = last.level, 0.0
        if needed > level:
            level = needed
        elif needed < level:
            calm_s = last.calm_s + self.context.interval_s
            if calm_s >= self.hold_s:
                level, calm_s = needed, 0.0
        caps = caps_within(self.context, observation)
        level = min(level, self._levels.highest(caps))
        return self._levels.knobs(level, caps), _State(level, calm_s)

    def _needed(self, seen: Observation) -> int:
        """Returns the slowest level that keeps the objective; the highest if none does."""
        top = int(self._tpot_s.shape[1]) - 1
        late_s = self.patience_s
        if np.isfinite(seen.ttft_slo_s):
            late_s = self.ttft_part * seen.ttft_slo_s
        if seen.oldest_wait_s > late_s:
            return top
        seqs = self._seqs
        assert seqs is not None
        predicted = np.array([np.interp(seen.running, seqs, column) for column in self._tpot_s.T])
        allowed_s = self.stretch * predicted[-1]
        if np.isfinite(seen.tpot_slo_s):
            allowed_s = (1.0 - self.margin) * seen.tpot_slo_s
        enough = np.flatnonzero(predicted <= allowed_s * (1.0 + 1e-9))
        return int(enough[0]) if len(enough) else top
