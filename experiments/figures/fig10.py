"""Figure 10: demand response; power follows a signal while throughput is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas

from experiments.evaluation.statistics import FloatArray
from experiments.figures.base import Figure, Result, Row, tried
from experiments.figures.claims import Claim, Reading, evaluate, interval_of
from experiments.figures.context import Workshop, agents_at_hand
from experiments.figures.episodes import Run, run_whole
from experiments.figures.plot_marks import CONTROLLERS, FORMATS, controller_label, stem
from experiments.figures.saturation import Point, server_spec_of
from experiments.reporting.plot_style import BLACK, saved_plot

PAPER_GAIN = 0.22
BASE = "static_dynamic_cap"
_DASHES = ("-", (0, (5, 3)), (0, (3, 4)), (0, (1, 3)))
"""Lines that lie on each other are told apart by their dashes."""


@dataclass(kw_only=True)
class Fig10(Figure):
    """Figure 10 of arXiv:2605.21427.

    Attributes:
        controllers: Controllers; the static batch with a dynamic cap and PALS are needed.
        agents: Trained agents, played where their bundles are there.
        overrides: What is run, as overrides of ``experiments.run``.
        variants: Further overrides by variant.
        try_variants: Names of the variants to try; ``None`` tries all.
        bins: Bins of the power target, by its quantiles.
        shown_s: Stretch of the first seed that is drawn, in seconds.
        seeds: Episodes.
        variant_seeds: Episodes of every variant.
        duration_s: Length of an episode in seconds.
    """

    controllers: list[str] = field(default_factory=lambda: [BASE, "pals"])
    agents: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    variants: dict[str, list[str]] = field(default_factory=dict)
    try_variants: list[str] | None = None
    bins: int = 5
    shown_s: float = 600.0
    seeds: int = 4
    variant_seeds: int = 2
    duration_s: float = 3600.0

    def make(self, workshop: Workshop) -> Result:
        """See :meth:`Figure.make`."""
        variants = tried(self.variants, self.try_variants)
        agents, missing = agents_at_hand(self.agents)
        names = [*self.controllers, *agents]
        runs = run_whole(
            workshop, "fig10", {"main": self.overrides}, {"main": names}, seeds=self.seeds,
            duration_s=self.duration_s,
        )  # fmt: skip
        others = run_whole(
            workshop, "fig10-variants",
            {name: [*self.overrides, *more] for name, more in variants.items()},
            {name: [BASE, "pals"] for name in variants},
            seeds=self.variant_seeds, duration_s=self.duration_s,
        )  # fmt: skip
        series = {run: cluster_series(run) for run in [*runs, *others]}
        return Result(
            title="Demand response: power follows a signal, throughput is kept",
            caption=(
                "DeepSeek-MoE on three nodes of 4 A100, always full; a synthetic regulation "
                "signal (the paper's is not given) is the power target of the whole nodes. (a) "
                f"The first seed's first {self.shown_s:g} s. (b) Throughput then. (c) Throughput "
                f"over that of {controller_label(BASE)} at the same power target, by target; "
                f"95 % intervals over {self.seeds} seeds of {self.duration_s:g} s."
            ),
            rows=self._rows(runs, others, series),
            draw=lambda file: self._draw(runs, names, series, file),
            claims=[self._claim(runs, others, series)],
            notes=missing,
        )

    def _gains(
        self, runs: Sequence[Run], series: dict[Run, pandas.DataFrame], name: str
    ) -> tuple[FloatArray, FloatArray]:
        """Returns mean power target of each bin and gains of shape ``(bins, seeds)``."""
        targets, gains = [], []
        for seed in sorted({run.seed for run in runs}):
            own, base = (
                next(series[run] for run in runs if run.seed == seed and run.controller == which)
                for which in (name, BASE)
            )
            bins = pandas.qcut(base["budget_w"], self.bins, labels=False, duplicates="drop")
            targets.append(base["budget_w"].groupby(bins).mean().to_numpy())
            ratio = own["throughput_tok_s"].groupby(bins).mean() / (
                base["throughput_tok_s"].groupby(bins).mean()
            )
            gains.append(ratio.to_numpy() - 1.0)
        return np.mean(targets, axis=0), np.array(gains).T

    def _rows(
        self, runs: Sequence[Run], others: Sequence[Run], series: dict[Run, pandas.DataFrame]
    ) -> list[Row]:
        rows: list[Row] = []
        for variant in dict.fromkeys(run.variant for run in [*runs, *others]):
            part = [run for run in [*runs, *others] if run.variant == variant]
            for name in dict.fromkeys(run.controller for run in part):
                summaries = [run.summary for run in part if run.controller == name]
                targets, gains = self._gains(part, series, name)
                for target, gain in zip(targets, gains, strict=True):
                    own = interval_of(gain)
                    rows.append({
                        "variant": variant, "controller": name, "power_target_w": target,
                        "throughput_gain": own.value, "throughput_gain_low": own.low,
                        "throughput_gain_high": own.high,
                        **{key: float(np.mean([s[key] for s in summaries])) for key in (
                            "power_tracking_error_w", "budget_overshoot_rate",
                            "power_in_scope_mean_w", "throughput_tok_s",
                        )},
                    })  # fmt: skip
        return rows

    def _draw(
        self, runs: Sequence[Run], names: list[str], series: dict[Run, pandas.DataFrame],
        file: Path,
    ) -> None:  # fmt: skip
        first = min(run.seed for run in runs)
        with saved_plot(
            stem(file), 1, 3, (12.6, 3.9), formats=FORMATS,
            gridspec_kw={"width_ratios": [1.4, 1.4, 1.0]},
        ) as (figure, (power, rate, gain)):  # fmt: skip
            for number, name in enumerate(names):
                style = _DASHES[number % len(_DASHES)]
                own = next(series[r] for r in runs if r.seed == first and r.controller == name)
                own = own[own["time_s"] <= self.shown_s]
                color = CONTROLLERS.get(name, (name, BLACK))[1]
                power.plot(own["time_s"], own["power_w"], color=color, lw=1.6, ls=style,
                           label=controller_label(name))  # fmt: skip
                rate.plot(own["time_s"], own["throughput_tok_s"], color=color, lw=1.6, ls=style)
                if name != BASE:
                    targets, gains = self._gains(runs, series, name)
                    values = [interval_of(100.0 * row) for row in gains]
                    gain.plot(
                        targets,
                        [v.value for v in values],
                        "o",
                        ls=style,
                        color=color,
                        ms=9 - 2 * number,
                    )
                    gain.fill_between(targets, [v.low for v in values], [v.high for v in values],
                                      color=color, alpha=0.2, lw=0)  # fmt: skip
            power.plot(own["time_s"], own["budget_w"], color=BLACK, ls="--", lw=1.2,
                       label="power target")  # fmt: skip
            gain.axhline(100 * PAPER_GAIN, color=BLACK, lw=1.4, ls=(0, (2, 1)))
            gain.annotate("paper: up to +22 %", (0.02, 100 * PAPER_GAIN), fontsize=7.5,
                          xycoords=("axes fraction", "data"), xytext=(0, 3),
                          textcoords="offset points")  # fmt: skip
            power.set_title("(a) Power of the nodes, W")
            rate.set_title("(b) Output tokens/s")
            gain.set_title("(c) Throughput gain, %")
            for axis in (power, rate):
                axis.set_xlabel("Time, s")
            rate.set_ylim(bottom=0)
            gain.set_xlabel("Power target, W")
            handles, labels = power.get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=6)

    def _claim(
        self, runs: Sequence[Run], others: Sequence[Run], series: dict[Run, pandas.DataFrame]
    ) -> Claim:
        _, gains = self._gains(runs, series, "pals")
        ours = interval_of(gains[0])
        readings = [Reading("mean over all power targets", *interval_of(gains.mean(axis=0)))]
        for variant in dict.fromkeys(run.variant for run in others):
            own = [run for run in others if run.variant == variant]
            _, other = self._gains(own, series, "pals")
            readings.append(Reading(f"{variant}, lowest power targets", *interval_of(other[0])))
        room = cache_ratio("deepseek_moe_16b", "a100_sxm4_80gb", 4, 64)
        error = {
            name: interval_of([r.summary["power_tracking_error_w"] for r in runs
                               if r.controller == name]).value
            for name in (BASE, "pals")
        }  # fmt: skip
        return Claim(
            "fig10.throughput", "fig10",
            "PALS delivers up to +22 % throughput at low power targets, against a static batch "
            "of 64 with a dynamic cap", PAPER_GAIN, *ours,
            f"DeepSeek-MoE, three nodes, always full, lowest {100 // self.bins} % of the power "
            f"targets, {self.seeds} seeds of {self.duration_s:g} s",
            evaluate(PAPER_GAIN, ours, 0.0),
            "At the same cap the throughput of a full server only rises with its batch, so the "
            "batch limit has nothing to give below 64. A full KV cache would change that, but the "
            f"cache of a node here holds {room:.1f} times what 64 requests of the "
            "model's longest context take. Power tracking error: "
            f"{error['pals']:.0f} W with PALS, {error[BASE]:.0f} W with the static batch.",
            "the signal, the model's choices at low targets, and what limits a batch of 64 there "
            "(a full KV cache would)",
            "fraction", tuple(readings),
        )  # fmt: skip


def cache_ratio(model: str, gpu: str, tensor: int, batch: int) -> float:
    """Returns the KV cache of a server over what a batch of the longest requests takes."""
    server_spec = server_spec_of(Point(model, 0.0, batch, tensor=tensor, gpu=gpu))
    cache = server_spec.spec.kv_blocks * server_spec.spec.block_size
    return float(cache / (batch * server_spec.model.max_model_len))


def cluster_series(run: Run) -> pandas.DataFrame:
    """Returns budget, power and summed throughput of a cluster's run, a row an interval."""
    rows = run.intervals()
    grouped = rows.groupby("time_s", sort=True)
    table = grouped[["cluster_budget_w", "cluster_power_w"]].first()
    table.columns = pandas.Index(["budget_w", "power_w"])
    table["throughput_tok_s"] = grouped["throughput_tok_s"].sum()
    return table.reset_index()
