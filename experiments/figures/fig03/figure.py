"""The configuration of figure 3, and how its parts are put together."""

from __future__ import annotations

from dataclasses import dataclass, field

from envs.quantities import Batch, GPUs, Watts
from experiments.figures.base import Figure, Result
from experiments.figures.context import FigureContext
from experiments.figures.fig03.data import KnobGridResults, KnobSets
from experiments.figures.fig03.plot import draw
from experiments.figures.fig03.verdicts import joint_claims, tensor_claim
from experiments.figures.grid import SteadyStates, knob_grid
from experiments.figures.saturation import SteadyConfig
from experiments.figures.text import figure_text


@dataclass(kw_only=True)
class Fig03(Figure):
    """Figure 3 of arXiv:2605.21427.

    Attributes:
        gpu: GPU type.
        models: Models.
        caps_w: Power caps.
        batches: Batch limits.
        tensors: Tensor-parallel sizes; the largest is the one that is fixed otherwise.
        fixed_cap_w: Cap of the software knobs alone (the paper's Baseline has 400 W; the
            figure's text speaks of 300 W).
        other_cap_w: Another cap of the software knobs, for the sensitivity of the claims.
        fixed_batch: Batch limit of the cap alone.
        lengths: Request lengths.
        other_lengths: Further request lengths for the sensitivity of the claims.
        steady: How a server is measured.
    """

    gpu: str = "a100_sxm4_80gb"
    models: list[str] = field(default_factory=list)
    caps_w: list[Watts] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    tensors: list[GPUs] = field(default_factory=lambda: [1, 2, 4])
    fixed_cap_w: Watts = 400.0
    other_cap_w: Watts = 300.0
    fixed_batch: Batch = 64
    lengths: str = "gsm8k"
    other_lengths: list[str] = field(default_factory=list)
    steady: SteadyConfig = field(default_factory=SteadyConfig)

    def make(self, context: FigureContext) -> Result:
        """Measures the grid of all knobs."""
        text = figure_text("fig03")
        sets = KnobSets(self.fixed_cap_w, max(self.tensors), self.fixed_batch)
        data = KnobGridResults(
            gpu=self.gpu,
            lengths=self.lengths,
            sets=sets,
            other_cap_w=self.other_cap_w,
            states=self._measure(context, "full servers", self.lengths),
            drawn=self._measure(context, "uncertainty", self.lengths, uncertainty=True),
            other_lengths={
                name: self._measure(context, f"lengths {name}", name) for name in self.other_lengths
            },
        )
        title, caption = text.made(
            lengths=self.lengths,
            seeds=self.steady.seeds,
            cap=self.fixed_cap_w,
            batch=self.fixed_batch,
            tensor=max(self.tensors),
        )
        return Result(
            title=title,
            caption=caption,
            rows=data.rows(),
            draw=lambda file: draw(text, data, self.models, file),
            claims=[
                *joint_claims(text, data, self.models),
                tensor_claim(text, data, self.models[0]),
            ],
        )

    def _measure(
        self, context: FigureContext, stage: str, lengths: str, *, uncertainty: bool = False
    ) -> SteadyStates:
        points = knob_grid(self.models, self.caps_w, self.batches, self.tensors, lengths, self.gpu)
        return context.measure(stage, points, self.steady, uncertainty=uncertainty)
