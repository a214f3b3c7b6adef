"""The configuration of figure 1, and how its parts are put together."""

from __future__ import annotations

from dataclasses import dataclass, field

from envs.quantities import Batch, GPUs
from experiments.figures.base import Figure, Result
from experiments.figures.context import FigureContext
from experiments.figures.fig01.data import CapAndBatchSweep, Efficiency
from experiments.figures.fig01.plot import draw
from experiments.figures.fig01.verdicts import batch_claims, peak_claims
from experiments.figures.saturation import SteadyConfig
from experiments.figures.text import figure_text


@dataclass(kw_only=True)
class Fig01(Figure):
    """Figure 1 of arXiv:2605.21427.

    Attributes:
        gpus: GPU types; the caps of each are its own list, from its lowest cap on.
        models: Models.
        tensor: Tensor-parallel size.
        batches: Batch limits of panel b, at the highest cap.
        batch: Batch limit of panel a.
        lengths: Request lengths.
        other_lengths: Further request lengths for the sensitivity of the claims.
        panels: Which panels to draw.
        steady: How a server is measured.
        title: Title; ``None`` for that of the paper's figure.
        evaluate_claims: Whether the paper's claims are evaluated; they are about the A100.
    """

    gpus: list[str] = field(default_factory=lambda: ["a100_sxm4_80gb"])
    models: list[str] = field(default_factory=list)
    tensor: GPUs = 4
    batches: list[Batch] = field(default_factory=lambda: [1, 4, 8, 16, 32, 64])
    batch: Batch = 64
    lengths: str = "gsm8k"
    other_lengths: list[str] = field(default_factory=list)
    panels: str = "ab"
    steady: SteadyConfig = field(default_factory=SteadyConfig)
    title: str | None = None
    evaluate_claims: bool = True

    def make(self, context: FigureContext) -> Result:
        """Measures full servers over caps and batch limits."""
        text = figure_text("fig01")
        sweep = CapAndBatchSweep(
            gpus=self.gpus,
            models=self.models,
            tensor=self.tensor,
            batches=self.batches,
            batch=self.batch,
            lengths=self.lengths,
            other_lengths=self.other_lengths if self.evaluate_claims else [],
        )
        data = Efficiency(sweep, context.measure("full servers", sweep.points(), self.steady))
        claims = []
        if self.evaluate_claims:
            own = sweep.points_of(self.gpus[0], self.lengths)
            states = context.measure("uncertainty", own, self.steady, uncertainty=True)
            drawn = Efficiency(sweep, states)
            claims = [*batch_claims(text, data, drawn), *peak_claims(text, data, drawn)]
        title, caption = text.made(
            tensor=self.tensor, lengths=self.lengths, seeds=self.steady.seeds
        )
        marked = text if self.evaluate_claims else None
        return Result(
            title=self.title or title,
            caption=caption,
            rows=data.rows(self.panels),
            draw=lambda file: draw(data, self.panels, file, marked),
            claims=claims,
        )
