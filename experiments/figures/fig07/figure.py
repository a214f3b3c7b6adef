"""The configuration of figure 7, and how its parts are put together."""

from __future__ import annotations

from dataclasses import dataclass, field

from envs.quantities import GPUs, Load, Seconds, Seeds
from experiments.figures.base import Figure, Result, select_variants
from experiments.figures.context import FigureContext, available_agents
from experiments.figures.fig07.data import Strategies, Variant
from experiments.figures.fig07.plot import draw
from experiments.figures.fig07.verdicts import strategy_claims
from experiments.figures.text import figure_text


@dataclass(kw_only=True)
class Fig07(Figure):
    """Figure 7 of arXiv:2605.21427, and its extensions.

    Attributes:
        gpus: GPU types, a panel each.
        models: Models, averaged over.
        tensor: Tensor-parallel size.
        workload: Name of the workload.
        load: Load as a fraction of Baseline's saturated rate.
        controllers: Controllers; ``static``, the paper's Baseline, has to be one.
        agents: Trained agents, evaluated where their bundles are available.
        scopes: Whose energy counts: ``gpu``, ``system`` or both side by side.
        seeds: Episodes per model.
        duration_s: Length of an episode in seconds.
        variants: Other choices by name, for the sensitivity of the claims.
        try_variants: Names of the variants to run; ``None`` runs all.
        title: Title; ``None`` for that of the paper's figure.
        evaluate_claims: Whether the paper's claims are evaluated.
    """

    gpus: list[str] = field(default_factory=lambda: ["a100_sxm4_80gb"])
    models: list[str] = field(default_factory=list)
    tensor: GPUs = 4
    workload: str = "poisson_gsm8k"
    load: Load = 0.7
    controllers: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)
    scopes: list[str] = field(default_factory=lambda: ["gpu"])
    seeds: Seeds = 8
    duration_s: Seconds = 600.0
    variants: dict[str, Variant] = field(default_factory=dict)
    try_variants: list[str] | None = None
    title: str | None = None
    evaluate_claims: bool = False

    def make(self, context: FigureContext) -> Result:
        """Runs all strategies on all models and, for the claims, in all variants."""
        variants = select_variants(self.variants, self.try_variants)
        agents, missing = available_agents(self.agents)
        names = [*self.controllers, *agents]
        text = figure_text("fig07")
        strategies = Strategies(
            gpus=self.gpus,
            models=self.models,
            tensor=self.tensor,
            workload=self.workload,
            load=self.load,
            seeds=self.seeds,
            duration_s=self.duration_s,
        )
        outcomes = strategies.run(context, names)
        claims = []
        if self.evaluate_claims:
            others = strategies.run_variants(context, variants)
            claims = strategy_claims(text, strategies, outcomes, others)
        title, caption = text.made(
            models=len(self.models),
            workload=self.workload,
            load=self.load,
            tensor=self.tensor,
            duration=self.duration_s,
            seeds=self.seeds,
        )
        marked = text if self.evaluate_claims else None
        return Result(
            title=self.title or title,
            caption=caption,
            rows=strategies.rows(outcomes, names),
            draw=lambda file: draw(strategies, outcomes, names, self.scopes, file, marked),
            claims=claims,
            notes=missing,
        )
