"""Tokens per joule of full servers over power caps and batch limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs import catalog
from experiments.evaluation.statistics import FloatArray
from experiments.figures.base import Row
from experiments.figures.claims import interval_of
from experiments.figures.grid import SteadyStates
from experiments.figures.operating_point import OperatingPoint
from experiments.figures.saturation import COUNTS, SCOPES

CAPS, BATCHES = "a", "b"
"""The two panels: over the cap, and over the batch limit."""


@dataclass(frozen=True)
class CapAndBatchSweep:
    """The operating points of both panels.

    Attributes:
        gpus: GPU types.
        models: Models.
        tensor: Tensor-parallel size.
        batches: Batch limits of panel b, at the highest cap.
        batch: Batch limit of panel a.
        lengths: Request lengths.
        other_lengths: Further request lengths.
    """

    gpus: Sequence[str]
    models: Sequence[str]
    tensor: int
    batches: Sequence[int]
    batch: int
    lengths: str
    other_lengths: Sequence[str]

    @property
    def all_lengths(self) -> list[str]:
        """All request lengths, those of the figure first."""
        return [self.lengths, *self.other_lengths]

    def caps(self, gpu: str) -> list[float]:
        """Returns the caps of a GPU type in watts: its list, and its lowest one."""
        spec = catalog.build("gpu", gpu)
        return sorted({float(spec.power_cap_min_w), *map(float, spec.power_caps_w)})

    def points(self) -> list[OperatingPoint]:
        """Returns the points of all GPU types and request lengths."""
        return [
            point
            for gpu in self.gpus
            for lengths in self.all_lengths
            for point in self.points_of(gpu, lengths)
        ]

    def points_of(self, gpu: str, lengths: str) -> list[OperatingPoint]:
        """Returns the points of one GPU type and one kind of request lengths."""
        return [
            point
            for model in self.models
            for panel in (CAPS, BATCHES)
            for _, point in self.axis(gpu, model, panel, lengths)
        ]

    def axis(
        self, gpu: str, model: str, panel: str, lengths: str
    ) -> list[tuple[float, OperatingPoint]]:
        """Returns the x values of a panel with their points."""
        caps = self.caps(gpu)
        steps = [(cap, cap, self.batch) for cap in caps]
        if panel == BATCHES:
            steps = [(float(batch), caps[-1], batch) for batch in self.batches]
        return [
            (x, OperatingPoint(model, cap, batch, tensor=self.tensor, lengths=lengths, gpu=gpu))
            for x, cap, batch in steps
        ]


@dataclass(frozen=True)
class Efficiency:
    """Measured tokens per joule.

    Attributes:
        sweep: The operating points.
        states: What was measured at them.
    """

    sweep: CapAndBatchSweep
    states: SteadyStates

    def series(
        self,
        gpu: str,
        model: str,
        panel: str,
        *,
        lengths: str | None = None,
        count: str = "total",
        scope: str = "gpu",
    ) -> tuple[list[float], FloatArray]:
        """Returns the x values of a panel and tokens per joule, shape ``(x, seeds)``."""
        axis = self.sweep.axis(gpu, model, panel, lengths or self.sweep.lengths)
        known = [
            (x, self.states[point].per_joule(count, scope))
            for x, point in axis
            if point in self.states
        ]
        return [x for x, _ in known], np.array([values for _, values in known])

    def gain(self, model: str, first: int, last: int, **choice: str) -> FloatArray:
        """Returns tokens per joule at one batch limit over those at another, shape ``(seeds,)``."""
        _, values = self.series(self.sweep.gpus[0], model, BATCHES, **choice)
        batches = self.sweep.batches
        return np.asarray(values[batches.index(last)] / values[batches.index(first)])

    def peaks(self, model: str, **choice: str) -> FloatArray:
        """Returns the cap with the most tokens per joule in watts, shape ``(seeds,)``."""
        caps, values = self.series(self.sweep.gpus[0], model, CAPS, **choice)
        peaks: FloatArray = np.asarray(caps)[np.argmax(values, axis=0)]
        return peaks

    def rows(self, panels: str) -> list[Row]:
        """Returns the points of the panels, for every count of tokens and scope of energy."""
        return [
            row
            for gpu in self.sweep.gpus
            for panel in panels
            for model in self.sweep.models
            for count in COUNTS
            for scope in SCOPES
            for row in self._rows(gpu, panel, model, count, scope)
        ]

    def _rows(self, gpu: str, panel: str, model: str, count: str, scope: str) -> list[Row]:
        rows: list[Row] = []
        xs, values = self.series(gpu, model, panel, count=count, scope=scope)
        for x, own in zip(xs, values, strict=True):
            absolute, ratio = interval_of(own), interval_of(own / values[0])
            rows.append(
                {
                    "panel": panel,
                    "gpu": gpu,
                    "model": model,
                    "power_cap_w" if panel == CAPS else "batch": x,
                    "tokens": count,
                    "energy": scope,
                    "tokens_per_joule": absolute.value,
                    "tokens_per_joule_low": absolute.low,
                    "tokens_per_joule_high": absolute.high,
                    "relative_to_first": ratio.value,
                }
            )
        return rows
