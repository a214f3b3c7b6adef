"""The configuration of figure 11, and how its parts are put together."""

from __future__ import annotations

from dataclasses import dataclass, field

from envs.quantities import Gain, Seconds, Seeds
from experiments.figures.base import Figure, Result
from experiments.figures.context import FigureContext, available_agents
from experiments.figures.episodes import run_variants
from experiments.figures.fig11.data import Tracking, rows
from experiments.figures.fig11.plot import draw
from experiments.figures.fig11.verdicts import tracking_claim
from experiments.figures.text import figure_text


@dataclass(kw_only=True)
class Fig11(Figure):
    """Figure 11 of arXiv:2605.21427.

    Attributes:
        controllers: Controllers; ``pals`` is the one that is evaluated.
        agents: Trained agents, run where their bundles are available.
        overrides: What is run, as overrides of ``experiments.run``.
        settle_s: Time after a step of the target that is not evaluated, in seconds.
        tolerance: Distance from the target that counts as on target, as a fraction.
        seeds: Episodes.
        duration_s: Length of an episode in seconds.
    """

    controllers: list[str] = field(default_factory=lambda: ["pals"])
    agents: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    settle_s: Seconds = 30.0
    tolerance: Gain = 0.1
    seeds: Seeds = 8
    duration_s: Seconds = 600.0

    def make(self, context: FigureContext) -> Result:
        """Runs the controllers on a target that moves in steps."""
        agents, missing = available_agents(self.agents)
        names = [*self.controllers, *agents]
        text = figure_text("fig11")
        runs = run_variants(
            context,
            "fig11",
            {"main": self.overrides},
            {"main": names},
            seeds=self.seeds,
            duration_s=self.duration_s,
        )
        title, caption = text.made(seeds=self.seeds)
        tracking = Tracking(self.settle_s, self.tolerance)
        return Result(
            title=title,
            caption=caption,
            rows=rows(runs),
            draw=lambda file: draw(runs, names, file),
            claims=[tracking_claim(text, tracking, runs, self.seeds)],
            notes=missing,
        )
