"""Full servers over a grid of caps, batches and tensor-parallel sizes (figures 3 and 8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from experiments.evaluation.statistics import FloatArray
from experiments.figures.operating_point import OperatingPoint
from experiments.figures.saturation import SteadyState

SteadyStates = dict[OperatingPoint, SteadyState]


def knob_grid(
    models: Sequence[str],
    caps_w: Sequence[float],
    batches: Sequence[int],
    tensors: Sequence[int],
    lengths: str,
    gpu: str,
) -> list[OperatingPoint]:
    """Returns every combination as a point, model by model."""
    return [
        OperatingPoint(model, float(cap), batch, tensor=tensor, lengths=lengths, gpu=gpu)
        for model in models
        for tensor in tensors
        for cap in caps_w
        for batch in batches
    ]


def best(
    states: SteadyStates, model: str, wanted: Callable[[OperatingPoint], bool], **choice: str
) -> FloatArray:
    """Returns the highest tokens per joule among a model's points, shape ``(seeds,)``.

    The point is chosen by its mean over the seeds, as from a measurement of all points, and
    not again for every seed.

    Args:
        states: Measured points.
        model: Model.
        wanted: Condition on the points.
        **choice: Arguments of :meth:`~.saturation.SteadyState.per_joule`.
    """
    own = [s.per_joule(**choice) for p, s in states.items() if p.model == model and wanted(p)]
    return max(own, key=lambda values: float(np.mean(values)))


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the points that no other one beats in both numbers, by ascending first number."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(points, reverse=True):
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    return kept[::-1]
