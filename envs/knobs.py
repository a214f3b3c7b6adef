"""What a controller may set: the power cap, the batch limit and, optionally, the SM clock."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np


class Knobs(NamedTuple):
    """A value for each knob.

    For a vector of servers each field holds an array of shape ``(num_envs,)``.

    Attributes:
        power_cap_w: Power cap of each GPU in watts (arXiv:2605.21427 Table 1).
        max_num_seqs: Sequences that may run at once, per data-parallel rank (vLLM's name).
        sm_clock_mhz: Upper bound on the SM clock in MHz; ``None`` leaves the clock free.
    """

    power_cap_w: Any
    max_num_seqs: Any
    sm_clock_mhz: Any = None


@dataclass(frozen=True)
class KnobLimits:
    """The range a serving system accepts for each knob.

    For a vector of servers each field holds an array of shape ``(num_envs,)``.

    Attributes:
        power_cap_min_w: Lowest power cap per GPU in watts.
        power_cap_max_w: Highest power cap per GPU in watts.
        max_num_seqs: Highest batch limit the server was started with.
        sm_clock_min_mhz: Lowest SM clock that can be locked, in MHz.
        sm_clock_max_mhz: Highest SM clock in MHz.
    """

    power_cap_min_w: Any
    power_cap_max_w: Any
    max_num_seqs: Any
    sm_clock_min_mhz: Any
    sm_clock_max_mhz: Any

    @classmethod
    def stacked(cls, limits: list[KnobLimits]) -> KnobLimits:
        """Returns the limits of many servers as one, each field an array."""
        columns = {
            item.name: np.array([getattr(limit, item.name) for limit in limits])
            for item in fields(cls)
        }
        return cls(**columns)

    @property
    def highest(self) -> Knobs:
        """The paper's Baseline: highest cap, largest batch, free clock."""
        return Knobs(self.power_cap_max_w, self.max_num_seqs, None)

    def clip(self, knobs: Knobs) -> Knobs:
        """Returns ``knobs`` moved to the nearest values that the server accepts."""
        cap = min(max(float(knobs.power_cap_w), self.power_cap_min_w), self.power_cap_max_w)
        seqs = min(max(int(knobs.max_num_seqs), 1), self.max_num_seqs)
        if knobs.sm_clock_mhz is None:
            return Knobs(cap, seqs, None)
        clock = float(np.clip(knobs.sm_clock_mhz, self.sm_clock_min_mhz, self.sm_clock_max_mhz))
        return Knobs(cap, seqs, clock)
