"""A rule that needs no model: the fuller the server, the higher the cap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from typing_extensions import override

from baselines.base import KnobController
from baselines.budget import caps_within
from envs.knobs import Knobs
from envs.observations import Observation
from envs.quantities import Gain, SecondsOrNone


class _State(NamedTuple):
    level: int
    calm_s: float


@dataclass(kw_only=True)
class Governor(KnobController):
    """Sets the cap level from running and waiting requests, as CPU governors do from load.

    The occupancy is the number of requests relative to the number that can run: the batch
    limit, or as many as the KV cache holds where that is fewer. The thresholds divide it
    between ``low`` and ``high`` evenly among the caps. The level rises immediately to the one
    that belongs to the occupancy; it falls one step at a time, after the occupancy has
    stayed ``margin`` below the threshold for ``hold_s``. The batch limit stays at its highest.

    While throughput is above the target by ``surplus`` the level falls whatever the
    occupancy, and it does not rise while throughput is above the target at all: a server
    that is offered more than its target is always full. This ends as soon as a request has
    waited for ``patience_s``, so that energy is not saved at the price of queueing.

    Attributes:
        low: Occupancy below which the lowest cap is used.
        high: Occupancy from which on the highest cap is used.
        margin: Occupancy below a threshold at which the level may fall (hysteresis).
        hold_s: Time in seconds that a reason to lower the level must last before it falls.
        surplus: Throughput above the target, as a fraction of it, that lets the level fall.
        patience_s: Longest wait for a first token, in seconds, that surplus throughput
            excuses; half the TTFT SLO where that is shorter.
    """

    adjustable = frozenset({"low", "high", "margin", "hold_s", "surplus", "patience_s"})

    low: Gain = 0.6
    high: Gain = 3.0
    margin: Gain = 0.05
    hold_s: SecondsOrNone = 2.0
    surplus: Gain = 0.05
    patience_s: SecondsOrNone = 2.0

    def __post_init__(self) -> None:
        """Checks that the thresholds are in order."""
        super().__post_init__()
        self.require(self.low < self.high, "low", f"be < high ({self.high})")

    @override
    def decide(self, observation: Observation, state: _State | None) -> tuple[Knobs, Any]:
        context = self.context
        caps, seqs = context.grid.power_caps_w, context.grid.max_num_seqs[-1]
        occupancy = _occupancy(observation, seqs)
        last = state or _State(0, 0.0)
        level, calm_s = last.level, 0.0
        above = self._above_target(observation)
        asked = self._level(occupancy)
        if asked > level and above < 0:
            level = asked
        elif level > 0 and (above > self.surplus or self._level(occupancy + self.margin) < level):
            calm_s = last.calm_s + context.interval_s
            if calm_s >= self.hold_s:
                level, calm_s = level - 1, 0.0
        level = min(level, caps_within(context, observation) - 1)
        return Knobs(caps[level], seqs), _State(level, calm_s)

    def _above_target(self, observation: Observation) -> float:
        """Returns throughput above the target as a fraction; negative if it must not count."""
        patience_s = min(self.patience_s, 0.5 * observation.ttft_slo_s)
        if observation.target_tok_s <= 0 or observation.oldest_wait_s > patience_s:
            return -1.0
        return float(observation.throughput_tok_s / observation.target_tok_s - 1.0)

    def _level(self, occupancy: float) -> int:
        """Returns the cap level that belongs to an occupancy."""
        count = len(self.context.grid.power_caps_w)
        if occupancy < self.low or count == 1:
            return 0
        fraction = min(1.0, (occupancy - self.low) / (self.high - self.low))
        return 1 + int(fraction * (count - 2))


def _occupancy(observation: Observation, seqs: int) -> float:
    """Returns requests over places; a KV cache that is full counts as a full batch."""
    running, requests = observation.running, observation.running + observation.waiting
    by_cache = observation.kv_cache_usage * requests / running if running > 0.5 else 0.0
    return float(max(requests / seqs, by_cache))
