"""The configuration of table 1, and how its parts are put together."""

from __future__ import annotations

from dataclasses import dataclass, field

from baselines.pals.predictor import FitReport, ForestConfig, predictor_for
from envs import catalog
from envs.quantities import GPUs
from experiments.figures.base import Figure, Result
from experiments.figures.context import FigureContext
from experiments.figures.table1.rows import rows
from experiments.figures.table1.verdicts import error_claims, importance_claim, node_claims
from experiments.figures.text import figure_text
from experiments.profiling.store import find_profile


@dataclass(kw_only=True)
class Table1(Figure):
    """Table 1 of arXiv:2605.21427, and the offline model over these knobs (its §3.2).

    Attributes:
        gpu: GPU type.
        models: Models that are profiled.
        tensors: Tensor-parallel sizes of the profile.
        forest: The offline model.
    """

    gpu: str = "a100_sxm4_80gb"
    models: list[str] = field(default_factory=list)
    tensors: list[GPUs] = field(default_factory=lambda: [1, 2, 4])
    forest: ForestConfig = field(default_factory=ForestConfig)

    def make(self, context: FigureContext) -> Result:
        """Profiles every model and fits its forest."""
        text = figure_text("table1")
        reports: dict[str, FitReport] = {}
        for done, model in enumerate(self.models, start=1):
            tensors = ",".join(map(str, self.tensors))
            config = context.compose(
                f"model={model}", f"gpu={self.gpu}", f"profile.tensor_parallel=[{tensors}]"
            )
            profile = find_profile(config.scenario, config.profile)
            reports[model] = predictor_for(profile, self.forest).report
            context.report("offline models", done, len(self.models))
        gpu, server = catalog.build("gpu", self.gpu), catalog.build("server", "simulated")
        title, caption = text.made()
        return Result(
            title=title,
            caption=caption,
            rows=rows(text, gpu, server, self.tensors, reports),
            claims=[
                *error_claims(text, reports, self.forest.folds),
                importance_claim(text, reports),
                *node_claims(text, server),
            ],
        )
