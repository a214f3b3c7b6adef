"""What a lesson counts besides energy; violations and switches get their prices from the limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from envs.fields import Checked
from envs.quantities import FractionBelowOne, Gain, Seconds


@dataclass(kw_only=True)
class LessonCost(Checked):
    """Prices of a lesson; the unit is what Baseline spends on the same.

    Attributes:
        work_value: Worth of a token, in Baseline's energy for a token: work done within the
            horizon need not be done after it.
        prompt_weight: Tokens of output that a prompt token counts as.
        severity: Further price of a violation per relative shortfall, as a multiple.
        strictness: Tolerance of QoS that is not used, as a fraction of the target.
        late_price: Price of a request past the patience, in Baseline's energy for a request.
        patience_s: Longest time to first token where no SLO demands less, in seconds.
    """

    config_key: ClassVar[str] = "cost"

    work_value: Gain = 1.0
    prompt_weight: Gain = 0.1
    severity: Gain = 4.0
    strictness: FractionBelowOne = 0.005
    late_price: Gain = 1.0
    patience_s: Seconds = 2.0
