"""Figure 11: a moving throughput target, followed by cap and batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas

from experiments.evaluation.statistics import FloatArray
from experiments.figures.base import Figure, Result, Row
from experiments.figures.claims import NOT_REPRODUCED, REPRODUCED, Claim, Reading, interval_of
from experiments.figures.context import Workshop, agents_at_hand
from experiments.figures.episodes import Run, run_whole
from experiments.figures.plot_marks import CONTROLLERS, FORMATS, controller_label, stem
from experiments.reporting.plot_style import BLACK, saved_plot

_ENOUGH = 0.9
"""Fraction of settled time within tolerance from which a target counts as tracked."""


@dataclass(kw_only=True)
class Fig11(Figure):
    """Figure 11 of arXiv:2605.21427.

    Attributes:
        controllers: Controllers; ``pals`` is the one that is evaluated.
        agents: Trained agents, played where their bundles are there.
        overrides: What is run, as overrides of ``experiments.run``.
        settle_s: Time after a step of the target that is not evaluated, in seconds.
        tolerance: Distance from the target that counts as on target, as a fraction.
        seeds: Episodes.
        duration_s: Length of an episode in seconds.
    """

    controllers: list[str] = field(default_factory=lambda: ["pals"])
    agents: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    settle_s: float = 30.0
    tolerance: float = 0.1
    seeds: int = 8
    duration_s: float = 600.0

    def make(self, workshop: Workshop) -> Result:
        """See :meth:`Figure.make`."""
        agents, missing = agents_at_hand(self.agents)
        names = [*self.controllers, *agents]
        runs = run_whole(
            workshop, "fig11", {"main": self.overrides}, {"main": names}, seeds=self.seeds,
            duration_s=self.duration_s,
        )  # fmt: skip
        return Result(
            title="A moving throughput target, followed by cap and batch",
            caption=(
                "Mixtral-8x7B on 4 A100, always full; the target steps through fraction of "
                f"Baseline's capacity. First of {self.seeds} seeds: throughput over 10 s against "
                "the target, the cap and the batch limit that were set."
            ),
            rows=self._rows(runs),
            draw=lambda file: self._draw(runs, names, file),
            claims=[self._claim(runs)],
            notes=missing,
        )

    def _rows(self, runs: list[Run]) -> list[Row]:
        rows: list[Row] = []
        columns = ["time_s", "target_tok_s", "throughput_tok_s", "power_w",
                   "requested_power_cap_w", "requested_max_num_seqs"]  # fmt: skip
        for run in runs:
            table = run.intervals()
            for row in table[columns].to_dict("records"):
                rows.append({"controller": run.controller, "seed": run.seed,
                             **{str(key): value for key, value in row.items()}})  # fmt: skip
        return rows

    def _draw(self, runs: list[Run], names: list[str], file: Path) -> None:
        first = min(run.seed for run in runs)
        with saved_plot(stem(file), 3, 1, (8.4, 6.4), formats=FORMATS, sharex=True) as (fig, axes):
            for name in names:
                table = next(r for r in runs if r.controller == name and r.seed == first
                             ).intervals()  # fmt: skip
                color = CONTROLLERS.get(name, (name, BLACK))[1]
                for axis, column in zip(
                    axes, ("throughput_tok_s", "requested_power_cap_w", "requested_max_num_seqs"),
                    strict=True,
                ):  # fmt: skip
                    axis.plot(table["time_s"], table[column], color=color,
                              label=controller_label(name))  # fmt: skip
            axes[0].plot(table["time_s"], table["target_tok_s"], color=BLACK, ls="--",
                         label="target")  # fmt: skip
            titles = ("Output tokens/s", "Power cap per GPU, W", "Batch limit")
            for axis, title in zip(axes, titles, strict=True):
                axis.set_title(title)
                axis.set_ylim(bottom=0)
            axes[-1].set_xlabel("Time, s")
            handles, labels = axes[0].get_legend_handles_labels()
            fig.legend(handles, labels, loc="outside lower center", ncols=6)

    def _claim(self, runs: list[Run]) -> Claim:
        tables = [run.intervals() for run in runs if run.controller == "pals"]
        on_target = np.array([self._fraction(table) for table in tables])
        not_below = np.array([self._fraction(table, above=True) for table in tables])
        ours = interval_of(on_target)
        moved = {
            what: float(np.mean([table[column].nunique() for table in tables]))
            for what, column in (("caps", "requested_power_cap_w"),
                                 ("batch limits", "requested_max_num_seqs"))
        }  # fmt: skip
        return Claim(
            "fig11.tracked", "fig11", "cap and batch follow a moving throughput target",
            "tracked", *ours,
            f"fraction of the time from {self.settle_s:g} s after each step within "
            f"{self.tolerance:.0%} of the target, {self.seeds} seeds",
            REPRODUCED if ours.low >= _ENOUGH else NOT_REPRODUCED,
            f"PALS uses {moved['caps']:.1f} caps and {moved['batch limits']:.1f} batch limits a "
            f"run. Not more than {self.tolerance:.0%} below the target it is "
            f"{interval_of(not_below).value:.0%} of that time: where the grid has no setting "
            "near the target, a full server delivers more than is asked. (Reproduced: within it "
            f"{_ENOUGH:.0%} of the time.)",
            "how tracking was measured, and the targets",
            "fraction of time",
            (Reading("not below the target", *interval_of(not_below)),),
        )  # fmt: skip

    def _fraction(self, table: pandas.DataFrame, *, above: bool = False) -> float:
        target = table["target_tok_s"].to_numpy()
        time = table["time_s"].to_numpy()
        stepped = np.concatenate([[0.0], time[1:][np.diff(target) != 0]])
        since: FloatArray = time - stepped[np.searchsorted(stepped, time, side="right") - 1]
        error = table["throughput_tok_s"].to_numpy() / target - 1.0
        good = error > -self.tolerance if above else np.abs(error) < self.tolerance
        evaluated = since > min(self.settle_s, 0.5 * float(time[-1]))
        return float(np.mean(good[evaluated])) if evaluated.any() else float(np.mean(good))
