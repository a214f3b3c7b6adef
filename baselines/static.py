"""The same knobs throughout: the paper's Baseline strategy by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from baselines.base import KnobController
from baselines.budget import caps_within
from envs.knobs import Knobs
from envs.observations import Observation
from envs.quantities import Batch, Watts


@dataclass(kw_only=True)
class Static(KnobController):
    """Never changes the knobs (arXiv:2605.21427 §4: 400 W and batch 64).

    Attributes:
        power_cap_w: Power cap per GPU in watts; ``None`` takes the highest of the grid.
        max_num_seqs: Batch limit; ``None`` takes the highest of the grid.
        respect_budget: Whether the cap is lowered to what the power budget leaves. The
            paper's Baseline ignores budgets.
    """

    power_cap_w: Watts | None = None
    max_num_seqs: Batch | None = None
    respect_budget: bool = False

    @override
    def decide(self, observation: Observation, state: Any) -> tuple[Knobs, Any]:
        highest = self.context.highest
        cap = highest.power_cap_w if self.power_cap_w is None else self.power_cap_w
        seqs = highest.max_num_seqs if self.max_num_seqs is None else self.max_num_seqs
        if self.respect_budget:
            allowed = caps_within(self.context, observation)
            cap = min(cap, self.context.grid.power_caps_w[allowed - 1])
        return self.context.limits.clip(Knobs(cap, seqs)), None
