"""The configuration of figure 2, and how its parts are put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from envs.fields import Range
from envs.quantities import Batch, GPUs
from experiments.figures.base import Figure, Result
from experiments.figures.context import FigureContext
from experiments.figures.fig02.data import StepTimes, row, step_times
from experiments.figures.fig02.plot import draw
from experiments.figures.fig02.verdicts import bound_claims
from experiments.figures.operating_point import OperatingPoint, is_possible
from experiments.figures.text import figure_text


@dataclass(kw_only=True)
class Fig02(Figure):
    """Figure 2 of arXiv:2605.21427.

    Attributes:
        gpu: GPU type.
        models: Models.
        tensors: Tensor-parallel sizes.
        batches: Batch sizes.
        lengths: Request lengths.
        draws: Draws of the coefficients within their uncertainty.
    """

    gpu: str = "a100_sxm4_80gb"
    models: list[str] = field(default_factory=list)
    tensors: list[GPUs] = field(default_factory=lambda: [2, 4])
    batches: list[Batch] = field(default_factory=lambda: [1, 16, 64])
    lengths: str = "gsm8k"
    draws: Annotated[int, Range(least=2, most=100_000)] = 200

    def make(self, context: FigureContext) -> Result:
        """Computes the mean engine step of every model, size and batch."""
        text = figure_text("fig02")
        times: dict[OperatingPoint, StepTimes] = {}
        points = [
            OperatingPoint(model, 0.0, batch, tensor=tensor, lengths=self.lengths, gpu=self.gpu)
            for model in self.models
            for tensor in self.tensors
            for batch in self.batches
        ]
        for done, point in enumerate(points, start=1):
            if is_possible(point):
                times[point] = step_times(point, self.draws)
            context.report("steps", done, len(points))
        title, caption = text.made(draws=self.draws)
        return Result(
            title=title,
            caption=caption,
            rows=[row(point, own) for point, own in times.items()],
            draw=lambda file: draw(times, self.models, file),
            claims=bound_claims(text, times, max(self.tensors)),
        )
