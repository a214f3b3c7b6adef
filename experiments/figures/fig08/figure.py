"""The configuration of figure 8, and how its parts are put together."""

from __future__ import annotations

from dataclasses import dataclass, field

from envs.quantities import Batch, GPUs, Watts
from experiments.figures.base import Figure, Result
from experiments.figures.context import FigureContext
from experiments.figures.fig08.data import TensorHeadroom
from experiments.figures.fig08.plot import draw
from experiments.figures.fig08.verdicts import headroom_claim
from experiments.figures.grid import knob_grid
from experiments.figures.saturation import SteadyConfig
from experiments.figures.text import figure_text


@dataclass(kw_only=True)
class Fig08(Figure):
    """Figure 8 of arXiv:2605.21427.

    Attributes:
        gpu: GPU type.
        models: Models.
        caps_w: Power caps.
        batches: Batch limits to choose from.
        tensors: Tensor-parallel sizes to choose from.
        fixed: The size that is fixed.
        lengths: Request lengths.
        steady: How a server is measured.
    """

    gpu: str = "a100_sxm4_80gb"
    models: list[str] = field(default_factory=list)
    caps_w: list[Watts] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    tensors: list[GPUs] = field(default_factory=lambda: [1, 2, 4])
    fixed: GPUs = 4
    lengths: str = "gsm8k"
    steady: SteadyConfig = field(default_factory=SteadyConfig)

    def make(self, context: FigureContext) -> Result:
        """Measures the grid of caps, batch limits and tensor-parallel sizes."""
        text = figure_text("fig08")
        points = knob_grid(
            self.models, self.caps_w, self.batches, self.tensors, self.lengths, self.gpu
        )
        states = context.measure("full servers", points, self.steady)
        data = TensorHeadroom(self.models, self.caps_w, self.fixed, states)
        title, caption = text.made(fixed=self.fixed, seeds=self.steady.seeds, lengths=self.lengths)
        return Result(
            title=title,
            caption=caption,
            rows=data.rows(),
            draw=lambda file: draw(data, file),
            claims=[headroom_claim(text, data)],
        )
