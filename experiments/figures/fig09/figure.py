"""The configuration of figure 9, and how its parts are put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from envs.fields import OneOf
from envs.quantities import Seconds, Seeds
from experiments.figures.base import Figure, Result, select_variants
from experiments.figures.context import FigureContext, available_agents
from experiments.figures.episodes import FinishedRun, run_variants
from experiments.figures.fig09.data import BASELINE, NodeRuns
from experiments.figures.fig09.latency_plot import draw_latency
from experiments.figures.fig09.plot import draw
from experiments.figures.fig09.verdicts import qos_claims
from experiments.figures.plot_marks import model_label
from experiments.figures.text import FigureText, figure_text

MAIN = "main"
VIEWS = ("throughput", "latency")
_COMPARED = (BASELINE, "pals")


@dataclass(kw_only=True)
class Fig09(Figure):
    """Figure 9 of arXiv:2605.21427; with ``view: latency`` the same runs by latency.

    Attributes:
        controllers: Controllers of the main variant; ``static`` and ``pals`` are needed.
        agents: Trained agents, evaluated where their bundles are available.
        overrides: What is run, as overrides of ``experiments.run``.
        variants: Further overrides by variant, run with ``static`` and ``pals`` alone.
        try_variants: Names of the variants to run; ``None`` runs all.
        nodes: Model of each node by its name, for labels.
        ttft_slo_s: Longest acceptable time to first token; evaluated, not controlled for.
        tpot_slo_s: Longest acceptable time per output token.
        seeds: Episodes of the main variant.
        variant_seeds: Episodes of every other variant.
        duration_s: Length of an episode in seconds.
        view: ``throughput`` or ``latency``.
    """

    controllers: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    variants: dict[str, list[str]] = field(default_factory=dict)
    try_variants: list[str] | None = None
    nodes: dict[str, str] = field(default_factory=dict)
    ttft_slo_s: Seconds = 1.0
    tpot_slo_s: Seconds = 0.05
    seeds: Seeds = 4
    variant_seeds: Seeds = 2
    duration_s: Seconds = 3600.0
    view: Annotated[str, OneOf(*VIEWS)] = "throughput"

    def __post_init__(self) -> None:
        """Checks that what is compared is there."""
        super().__post_init__()
        there = set(_COMPARED) <= set(self.controllers)
        self.require(there, "controllers", f"have {' and '.join(_COMPARED)} among them")

    def make(self, context: FigureContext) -> Result:
        """Runs the cluster; for the throughput view in all variants."""
        variants = select_variants(self.variants, self.try_variants)
        agents, missing = available_agents(self.agents)
        names = [*self.controllers, *agents]
        runs = run_variants(
            context,
            "fig09",
            {MAIN: self._overrides()},
            {MAIN: names},
            seeds=self.seeds,
            duration_s=self.duration_s,
        )
        if self.view == "latency":
            return self._latency(runs, names, missing)
        others = run_variants(
            context,
            "fig09-variants",
            {name: [*self._overrides(), *more] for name, more in variants.items()},
            dict.fromkeys(variants, _COMPARED),
            seeds=self.variant_seeds,
            duration_s=self.duration_s,
        )
        text = figure_text("fig09")
        data = NodeRuns(self.nodes, runs)
        scenario = self._scenario(text)
        title, caption = text.made(scenario=scenario, seeds=self.seeds)
        by_variant = {
            name: NodeRuns(self.nodes, [run for run in others if run.variant == name])
            for name in dict.fromkeys(run.variant for run in others)
        }
        return Result(
            title=title,
            caption=caption,
            rows=[*data.rows(), *NodeRuns(self.nodes, others).rows()],
            draw=lambda file: draw(text, data, names, file),
            claims=qos_claims(text, data, by_variant, scenario),
            notes=missing,
        )

    def _overrides(self) -> list[str]:
        return [
            *self.overrides,
            f"objective.ttft_slo_s={self.ttft_slo_s}",
            f"objective.tpot_slo_s={self.tpot_slo_s}",
        ]

    def _scenario(self, text: FigureText) -> str:
        return text.phrase(
            "scenario",
            models=", ".join(map(model_label, self.nodes.values())),
            duration=self.duration_s,
            seeds=self.seeds,
        )

    def _latency(self, runs: Sequence[FinishedRun], names: list[str], missing: list[str]) -> Result:
        text = figure_text("fig09", "latency")
        data = NodeRuns(self.nodes, runs)
        title, caption = text.made(
            scenario=self._scenario(figure_text("fig09")),
            ttft=self.ttft_slo_s,
            tpot_ms=1e3 * self.tpot_slo_s,
        )
        slos = (self.ttft_slo_s, self.tpot_slo_s)
        return Result(
            title=title,
            caption=caption,
            rows=data.rows(),
            draw=lambda file: draw_latency(data, names, slos, file),
            notes=missing,
        )
