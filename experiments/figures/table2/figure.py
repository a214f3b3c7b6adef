"""Table 2: parameters and experts of the served models."""

from __future__ import annotations

from dataclasses import dataclass, field

from envs import catalog
from experiments.figures.base import Figure, Result, Row
from experiments.figures.claims import NOT_REPRODUCED, REPRODUCED, SensitivityCase
from experiments.figures.context import FigureContext
from experiments.figures.plot_marks import model_label
from experiments.figures.text import figure_text

CLOSE = 0.05
"""Difference of total parameters, as a fraction, below which a model's size agrees."""


@dataclass(kw_only=True)
class Table2(Figure):
    """Table 2 of arXiv:2605.21427.

    Attributes:
        models: Models.
    """

    models: list[str] = field(default_factory=list)

    def make(self, context: FigureContext) -> Result:
        """Counts the parameters of every model from its shape."""
        text = figure_text("table2")
        rows: list[Row] = []
        differences = {}
        for model in self.models:
            spec = catalog.build("model", model)
            total, active, experts, top_k = text.paper[model]
            own = spec.total_params / 1e9
            differences[model] = abs(own / total - 1.0)
            rows.append(
                {
                    "model": model_label(model),
                    "total_paper": total,
                    "total_here": round(own, 3),
                    "active_paper": active,
                    "active_here": round(spec.active_params / 1e9, 3),
                    "experts_paper": experts,
                    "experts_here": spec.experts or None,
                    "top_k_paper": top_k,
                    "top_k_here": spec.top_k or None,
                }
            )
        context.report("models", len(self.models), len(self.models))
        worst = max(differences.values())
        title, caption = text.made()
        claim = text.evaluated(
            "parameters",
            worst,
            REPRODUCED if worst < CLOSE else NOT_REPRODUCED,
            sensitivity=[SensitivityCase(model_label(m), d) for m, d in differences.items()],
            close=CLOSE,
        )
        return Result(title=title, caption=caption, rows=rows, claims=[claim])
