"""Full servers over the grid of all knobs, and the sets of knobs that are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from experiments.evaluation.statistics import FloatArray
from experiments.figures.base import Row
from experiments.figures.claims import interval_of
from experiments.figures.grid import SteadyStates, best
from experiments.figures.operating_point import OperatingPoint

SOFTWARE, HARDWARE = "SW only (batch, TP)", "HW only (cap)"
CAP_AND_BATCH, ALL_KNOBS = "cap, batch", "cap, batch, TP"


@dataclass(frozen=True)
class KnobSets:
    """Which knobs may move; the others are fixed.

    Attributes:
        cap_w: Cap where it is fixed.
        tensor: Tensor-parallel size where it is fixed.
        batch: Batch limit where it is fixed.
    """

    cap_w: float
    tensor: int
    batch: int

    def members(self, cap_w: float | None = None) -> dict[str, Callable[[OperatingPoint], bool]]:
        """Returns the condition of each set on its points.

        Args:
            cap_w: Cap of the software knobs alone; ``None`` for the fixed one.
        """
        fixed_w = cap_w or self.cap_w
        return {
            SOFTWARE: lambda p: p.cap_w == fixed_w,
            HARDWARE: lambda p: p.batch == self.batch and p.tensor == self.tensor,
            CAP_AND_BATCH: lambda p: p.tensor == self.tensor,
            ALL_KNOBS: lambda p: True,
        }


@dataclass(frozen=True)
class KnobGridResults:
    """The measured grid.

    Attributes:
        gpu: GPU type.
        lengths: Request lengths.
        sets: The sets of knobs.
        other_cap_w: Another cap of the software knobs.
        states: Results by point.
        drawn: The same with coefficients drawn within their uncertainty.
        other_lengths: Results with other request lengths.
    """

    gpu: str
    lengths: str
    sets: KnobSets
    other_cap_w: float
    states: SteadyStates
    drawn: SteadyStates
    other_lengths: Mapping[str, SteadyStates]

    @property
    def by_lengths(self) -> dict[str, SteadyStates]:
        """Results by request lengths, those of the figure first."""
        return {self.lengths: self.states, **self.other_lengths}

    def ratio(
        self,
        states: SteadyStates,
        model: str,
        over: str,
        cap_w: float | None = None,
        **choice: str,
    ) -> FloatArray:
        """Returns the peak tokens per joule of all knobs over a set's, shape ``(seeds,)``."""
        members = self.sets.members(cap_w)
        everything = best(states, model, members[ALL_KNOBS], **choice)
        return np.asarray(everything / best(states, model, members[over], **choice))

    def rows(self) -> list[Row]:
        """Returns every point with its sets."""
        rows: list[Row] = []
        for point, own in self.states.items():
            rate, ratio = interval_of(own.tokens_per_s()), interval_of(own.per_joule())
            rows.append(
                {
                    "model": point.model,
                    "power_cap_w": point.cap_w,
                    "batch": point.batch,
                    "tensor_parallel": point.tensor,
                    "tokens_per_s": rate.value,
                    "tokens_per_joule": ratio.value,
                    "tokens_per_joule_low": ratio.low,
                    "tokens_per_joule_high": ratio.high,
                    **{f"in: {name}": has(point) for name, has in self.sets.members().items()},
                }
            )
        return rows
