"""The configuration of figure 10, and how its parts are put together."""

from __future__ import annotations

from dataclasses import dataclass, field

from envs.quantities import Count, Seconds, Seeds
from experiments.figures.base import Figure, Result, select_variants
from experiments.figures.context import FigureContext, available_agents
from experiments.figures.episodes import run_variants
from experiments.figures.fig10.data import BASE, DemandResponse, cluster_series
from experiments.figures.fig10.plot import draw
from experiments.figures.fig10.verdicts import throughput_claim
from experiments.figures.plot_marks import controller_label
from experiments.figures.text import figure_text


@dataclass(kw_only=True)
class Fig10(Figure):
    """Figure 10 of arXiv:2605.21427.

    Attributes:
        controllers: Controllers; the static batch with a dynamic cap and PALS are needed.
        agents: Trained agents, evaluated where their bundles are available.
        overrides: What is run, as overrides of ``experiments.run``.
        variants: Further overrides by variant.
        try_variants: Names of the variants to run; ``None`` runs all.
        bins: Bins of the power target, by its quantiles.
        shown_s: Part of the first seed that is drawn, in seconds.
        seeds: Episodes.
        variant_seeds: Episodes of every variant.
        duration_s: Length of an episode in seconds.
    """

    controllers: list[str] = field(default_factory=lambda: [BASE, "pals"])
    agents: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    variants: dict[str, list[str]] = field(default_factory=dict)
    try_variants: list[str] | None = None
    bins: Count = 5
    shown_s: Seconds = 600.0
    seeds: Seeds = 4
    variant_seeds: Seeds = 2
    duration_s: Seconds = 3600.0

    def make(self, context: FigureContext) -> Result:
        """Runs the cluster under a moving power target, in all variants."""
        variants = select_variants(self.variants, self.try_variants)
        agents, missing = available_agents(self.agents)
        names = [*self.controllers, *agents]
        text = figure_text("fig10")
        runs = run_variants(
            context,
            "fig10",
            {"main": self.overrides},
            {"main": names},
            seeds=self.seeds,
            duration_s=self.duration_s,
        )
        others = run_variants(
            context,
            "fig10-variants",
            {name: [*self.overrides, *more] for name, more in variants.items()},
            {name: [BASE, "pals"] for name in variants},
            seeds=self.variant_seeds,
            duration_s=self.duration_s,
        )
        series = {run: cluster_series(run) for run in [*runs, *others]}
        data = {
            name: DemandResponse(
                self.bins, {run: own for run, own in series.items() if run.variant == name}
            )
            for name in dict.fromkeys(run.variant for run in series)
        }
        main = data.pop("main")
        title, caption = text.made(
            shown=self.shown_s,
            base=controller_label(BASE),
            seeds=self.seeds,
            duration=self.duration_s,
        )
        claim = throughput_claim(text, main, data, seeds=self.seeds, duration_s=self.duration_s)
        return Result(
            title=title,
            caption=caption,
            rows=[
                {"variant": name, **row}
                for name, part in {"main": main, **data}.items()
                for row in part.rows()
            ],
            draw=lambda file: draw(text, main, names, self.shown_s, file),
            claims=[claim],
            notes=missing,
        )
