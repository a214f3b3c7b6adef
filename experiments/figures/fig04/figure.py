"""The configuration of figures 4 and 5, and how their parts are put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from envs.fields import OneOf
from envs.quantities import Batch, GPUs, Watts
from experiments.figures.base import Figure, Result
from experiments.figures.context import FigureContext
from experiments.figures.fig04.data import LAYOUTS, NodeScaling, NodeSweep
from experiments.figures.fig04.plot import draw
from experiments.figures.fig04.verdicts import all_fall_claim, loss_claims
from experiments.figures.saturation import SteadyConfig
from experiments.figures.text import figure_text

FIGURES = ("fig04", "fig05")


@dataclass(kw_only=True)
class Fig04(Figure):
    """Figure 4 or 5 of arXiv:2605.21427.

    Attributes:
        number: ``fig04`` or ``fig05``.
        gpu: GPU type.
        models: Models.
        nodes: Numbers of nodes.
        tensor: Tensor-parallel size within a node.
        cap_w: Power cap.
        batch: Batch limit.
        layout: How several nodes divide the work; one of :data:`.data.LAYOUTS`.
        lengths: Request lengths.
        other_lengths: Further request lengths for the sensitivity of the claims.
        steady: How a server is measured.
    """

    number: Annotated[str, OneOf(*FIGURES)] = "fig04"
    gpu: str = "a100_sxm4_80gb"
    models: list[str] = field(default_factory=list)
    nodes: list[GPUs] = field(default_factory=lambda: [1, 2, 3])
    tensor: GPUs = 4
    cap_w: Watts = 400.0
    batch: Batch = 64
    layout: Annotated[str, OneOf(*LAYOUTS)] = "spread"
    lengths: str = "gsm8k"
    other_lengths: list[str] = field(default_factory=list)
    steady: SteadyConfig = field(default_factory=SteadyConfig)

    def make(self, context: FigureContext) -> Result:
        """Measures one to three nodes in all layouts."""
        text = figure_text("fig04", self.number)
        sweep = NodeSweep(
            gpu=self.gpu,
            models=self.models,
            nodes=self.nodes,
            tensor=self.tensor,
            cap_w=self.cap_w,
            batch=self.batch,
            layout=self.layout,
            lengths=self.lengths,
            other_lengths=self.other_lengths,
            experts_within_node=self.number == "fig05",
        )
        data = NodeScaling(sweep, context.measure("full servers", sweep.points(), self.steady))
        own = context.measure("uncertainty", sweep.own_points(), self.steady, uncertainty=True)
        drawn = NodeScaling(sweep, own)
        title, caption = text.made(
            tensor=self.tensor,
            cap=self.cap_w,
            lengths=self.lengths,
            layout=LAYOUTS[self.layout],
            batch=self.batch,
            seeds=self.steady.seeds,
        )
        if self.number == "fig04":
            claims = loss_claims(text, data, drawn)
        else:
            claims = [all_fall_claim(text, data, drawn)]
        return Result(
            title=title,
            caption=caption,
            rows=data.rows(),
            draw=lambda file: draw(text, data, file),
            claims=claims,
        )
