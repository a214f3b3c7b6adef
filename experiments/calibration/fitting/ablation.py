"""Parts of the physics that can be removed, to measure what each explains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Ablation:
    """A model of the step with something missing.

    Attributes:
        name: What is missing.
        fixed: Coefficients that are not fitted but have this value.
        zeroed: Numbers of the step model that are 0.
    """

    name: str
    fixed: Mapping[str, float] = field(default_factory=dict)
    zeroed: tuple[str, ...] = ()


WHOLE = Ablation("nothing")
"""The whole model."""

ABLATIONS = (
    WHOLE,
    Ablation("uneven popularity (every expert as likely)", {"popularity_spread": 1e6}),
    Ablation("coverage (a step reads only top-k experts)", {"popularity_spread": 1e-9}),
    Ablation("expert imbalance between ranks", zeroed=("rank_maximum",)),
    Ablation("communication", {"all_reduce_s": 0.0}, ("traffic_s",)),
    Ablation("time per sequence", {"sequence_s": 0.0, "sampling_s": 0.0}),
)
"""The parts that the study removes, one at a time.

Shape 1e6 of the popularity is the uniform formula ``1 - (1 - k/E)^T``; at 1e-9 all tokens choose
the same ``k`` of ``E`` experts."""
