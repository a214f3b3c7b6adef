"""Figure 8: what a fixed tensor-parallel size leaves on the table, against the power cap."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from experiments.figures.base import FORMATS, NAMES, Made, PaperFigure
from experiments.figures.study import Study
from experiments.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, picture


@dataclass(kw_only=True)
class FixedTensorParallel(PaperFigure):
    """Figure 8.

    Attributes:
        models: Models to show.
        fixed: The tensor-parallel size that is kept.
    """

    models: list[str] = field(default_factory=list)
    fixed: int = 4
    title: str = "Headroom left by a fixed tensor-parallel size"

    def make(self, study: Study) -> Made:
        """See :meth:`PaperFigure.make`."""
        rows = []
        for model in self.models:
            frame = study.profile(f"model={model}", f"server.tensor_parallel={self.fixed}")
            for cap_w, part in frame.groupby("power_cap_w"):
                kept = part[part["tensor_parallel"] == self.fixed]["tokens_per_joule"].max()
                best = part.loc[part["tokens_per_joule"].idxmax()]
                rows.append(
                    {
                        "model": model,
                        "power_cap_w": cap_w,
                        "best_tensor_parallel": int(best["tensor_parallel"]),
                        "headroom": float(best["tokens_per_joule"] / kept - 1.0),
                    }
                )
        data = pd.DataFrame(rows)
        return Made(data, lambda file: self._draw(data, file))

    def _draw(self, data: pd.DataFrame, file: Path) -> None:
        colors = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY, BLACK)
        with picture(file, 1, 1, (5.6, 3.2), formats=FORMATS) as (_, axis):
            for model, color in zip(self.models, colors, strict=False):
                own = data[data["model"] == model]
                axis.plot(
                    own["power_cap_w"], 100.0 * own["headroom"], marker="o", ms=3, color=color,
                    label=NAMES[model],
                )  # fmt: skip
            axis.set(
                xlabel="Power cap per GPU, W",
                ylabel=f"Tokens/J that TP{self.fixed} leaves, %",
            )
            axis.legend(fontsize=7.5, ncols=2)
