"""Efficiency lost by a fixed tensor-parallel size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.evaluation.statistics import FloatArray
from experiments.figures.base import Row
from experiments.figures.claims import interval_of
from experiments.figures.grid import SteadyStates, best


@dataclass(frozen=True)
class TensorHeadroom:
    """Headroom of the best tensor-parallel size over a fixed one.

    Attributes:
        models: Models.
        caps_w: Power caps.
        fixed: The size that is fixed whatever the model.
        states: What was measured.
    """

    models: Sequence[str]
    caps_w: Sequence[float]
    fixed: int
    states: SteadyStates

    def headroom(self, model: str, fixed: int | None = None, scope: str = "gpu") -> FloatArray:
        """Returns the fraction of tokens/J that a fixed size loses, shape ``(caps, seeds)``.

        Args:
            model: Model.
            fixed: The fixed size; ``None`` for the best at the highest cap.
            scope: Whose energy counts.
        """
        size = fixed or self.best_size(model)
        rows = []
        for cap_w in self.caps_w:
            at_cap = {point: own for point, own in self.states.items() if point.cap_w == cap_w}
            every = best(at_cap, model, lambda point: True, scope=scope)
            own = best(at_cap, model, lambda point: point.tensor == size, scope=scope)
            rows.append(every / own - 1.0)
        return np.array(rows)

    def best_size(self, model: str) -> int:
        """Returns the tensor-parallel size with the most tokens/J at the highest cap."""
        top = max(self.caps_w)
        sizes = sorted({point.tensor for point in self.states if point.model == model})

        def efficiency(size: int) -> float:
            at_size = best(
                self.states, model, lambda point: point.cap_w == top and point.tensor == size
            )
            return float(np.mean(at_size))

        return max(sizes, key=efficiency)

    def rows(self) -> list[Row]:
        """Returns the headroom by model, fixed size and cap."""
        rows: list[Row] = []
        for model in self.models:
            for fixed in (self.fixed, self.best_size(model)):
                for cap, own in zip(self.caps_w, self.headroom(model, fixed), strict=True):
                    value = interval_of(own)
                    rows.append(
                        {
                            "model": model,
                            "fixed_tensor_parallel": fixed,
                            "power_cap_w": cap,
                            "headroom": value.value,
                            "headroom_low": value.low,
                            "headroom_high": value.high,
                        }
                    )
        return rows
