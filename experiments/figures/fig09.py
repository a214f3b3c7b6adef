"""Figure 9: QoS violations and efficiency of three nodes under one power budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from envs.errors import ConfigurationError
from experiments.evaluation.statistics import FloatArray, Interval
from experiments.figures.base import Figure, Result, Row, tried
from experiments.figures.claims import (
    DIRECTION,
    NOT_REPRODUCED,
    VERDICTS,
    Claim,
    Reading,
    evaluate,
    interval_of,
    mean_interval,
)
from experiments.figures.context import Workshop, agents_at_hand
from experiments.figures.episodes import Run, run_whole
from experiments.figures.plot_marks import (
    CONTROLLERS,
    FORMATS,
    bar,
    model_label,
    stem,
)
from experiments.reporting.plot_style import BLACK, BLUE, GREEN, ORANGE, RED, saved_plot

PAPER_BASELINE, PAPER_PALS = (0.187, 0.352), (0.032, 0.053)
PAPER_DIFFERENCE = (PAPER_BASELINE[0] - PAPER_PALS[0], PAPER_BASELINE[1] - PAPER_PALS[1])
_STRICT = VERDICTS.index
PAPER_FACTOR, PAPER_GAIN = (4.0, 7.0), 0.121
MAIN = "main"
READINGS = {
    "qos_violation_rate_plain": "plain: below the target",
    "qos_violation_rate": "below what Baseline delivers without a budget",
    "qos_violation_rate_backlog": "backlog-aware: below the target while work waits",
}
VIEWS = ("throughput", "latency")


@dataclass(kw_only=True)
class Fig09(Figure):
    """Figure 9 of arXiv:2605.21427; with ``view: latency`` the same runs by latency.

    Attributes:
        controllers: Controllers of the main variant; ``static`` and ``pals`` are needed.
        agents: Trained agents, played where their bundles are there.
        overrides: What is run, as overrides of ``experiments.run``.
        variants: Further overrides by variant, run with ``static`` and ``pals`` alone.
        try_variants: Names of the variants to try; ``None`` tries all.
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
    ttft_slo_s: float = 1.0
    tpot_slo_s: float = 0.05
    seeds: int = 4
    variant_seeds: int = 2
    duration_s: float = 3600.0
    view: str = "throughput"

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: The view is unknown, or a controller is missing.
        """
        if self.view not in VIEWS:
            raise ConfigurationError(f"figure.view: one of {', '.join(VIEWS)}, got {self.view!r}")
        if not {"static", "pals"} <= set(self.controllers):
            raise ConfigurationError("figure.controllers: static and pals have to be among them")

    def make(self, workshop: Workshop) -> Result:
        """See :meth:`Figure.make`."""
        variants = tried(self.variants, self.try_variants)
        agents, missing = agents_at_hand(self.agents)
        names = [*self.controllers, *agents]
        slos = [f"objective.ttft_slo_s={self.ttft_slo_s}",
                f"objective.tpot_slo_s={self.tpot_slo_s}"]  # fmt: skip
        shared = [*self.overrides, *slos]
        runs = run_whole(
            workshop, "fig09", {MAIN: shared}, {MAIN: names}, seeds=self.seeds,
            duration_s=self.duration_s,
        )  # fmt: skip
        if self.view == "latency":
            return self._latency(runs, names, missing)
        others = run_whole(
            workshop, "fig09-variants",
            {name: [*shared, *more] for name, more in variants.items()},
            {name: ["static", "pals"] for name in variants},
            seeds=self.variant_seeds, duration_s=self.duration_s,
        )  # fmt: skip
        return Result(
            title="QoS violations and efficiency of three nodes under 4,800 W",
            caption=(
                f"{self._setting()}. (a) Fraction of time below target (5 % tolerance, 10 s "
                "window), plain reading; dotted: the same relative to what Baseline delivers on "
                "the same arrivals without a budget. Grey bands: the paper's ranges for Baseline "
                "and PALS. (b) Tokens/J of all GPUs over Baseline's. Whiskers: 95 % intervals "
                f"over {self.seeds} seeds."
            ),
            rows=self._rows([*runs, *others]),
            draw=lambda file: self._draw(runs, names, file),
            claims=self._claims(runs, others),
            notes=missing,
        )

    def _setting(self) -> str:
        nodes = ", ".join(map(model_label, self.nodes.values()))
        return (
            f"Three nodes of 4 A100 ({nodes}), Poisson arrivals at each node's target (90, 60, "
            f"75 % of its capacity), {self.duration_s:g} s, {self.seeds} seeds; the budget covers "
            "whole nodes, which leaves 299 W a GPU"
        )

    def _rows(self, runs: Sequence[Run]) -> list[Row]:
        rows: list[Row] = []
        for run in runs:
            for node, own in run.summary["nodes"].items():
                rows.append({
                    "variant": run.variant, "controller": run.controller, "seed": run.seed,
                    "node": node, "model": self.nodes.get(node, node),
                    **{key: own[key] for key in (
                        *READINGS, "tokens_per_joule", "tokens_per_joule_system",
                        "throughput_tok_s", "target_mean_tok_s", "slo_violation_rate",
                        "ttft_p99_s", "tpot_p99_s", "power_mean_w",
                    )},
                })  # fmt: skip
        return rows

    def _rates(
        self, runs: Sequence[Run], name: str, key: str = "qos_violation_rate_plain"
    ) -> FloatArray:
        """Returns a node's figure by seed, shape ``(seeds, nodes)``."""
        return np.array([
            [run.summary["nodes"][node][key] or 0.0 for node in self.nodes]
            for run in runs if run.controller == name
        ])  # fmt: skip

    def _gain(self, runs: Sequence[Run], name: str, key: str = "tokens_per_joule") -> FloatArray:
        own = [run.summary[key] for run in runs if run.controller == name]
        base = [run.summary[key] for run in runs if run.controller == "static"]
        return np.asarray(np.array(own) / np.array(base))

    def _draw(self, runs: Sequence[Run], names: list[str], file: Path) -> None:
        colors = (BLUE, ORANGE, GREEN)
        size = (2.2 + 1.5 * len(names), 4.2)
        with saved_plot(
            stem(file), 1, 2, size, formats=FORMATS, gridspec_kw={"width_ratios": [1.7, 1.0]}
        ) as (figure, axes):
            left, right = axes
            for low, high in (PAPER_BASELINE, PAPER_PALS):
                left.axhspan(100 * low, 100 * high, color=BLACK, alpha=0.1, lw=0)
            left.text(len(names) - 0.4, 100 * PAPER_BASELINE[0], "paper:\nBaseline", fontsize=7.5,
                      va="bottom")  # fmt: skip
            left.text(len(names) - 0.4, 100 * PAPER_PALS[0], "paper:\nPALS", fontsize=7.5,
                      va="bottom")  # fmt: skip
            left.set_xlim(-0.6, len(names) + 0.35)
            for x, name in enumerate(names):
                plain = 100.0 * self._rates(runs, name)
                strict = 100.0 * self._rates(runs, name, "qos_violation_rate")
                for place, (node, color) in enumerate(zip(self.nodes, colors, strict=False)):
                    at = x + 0.26 * (place - 1)
                    bar(left, at, interval_of(plain[:, place]), 0.24, color,
                        label=model_label(self.nodes[node]) if x == 0 else None)  # fmt: skip
                    own = float(np.mean(strict[:, place]))
                    left.plot([at - 0.12, at + 0.12], [own, own], color=RED, lw=2.0, ls=":",
                              label="relative to Baseline's output" if x + place == 0 else None,
                              )  # fmt: skip
                bar(right, x, interval_of(self._gain(runs, name)), 0.65,
                    CONTROLLERS.get(name, (name, BLACK))[1])  # fmt: skip
            right.axhline(1.0 + PAPER_GAIN, color=BLACK, lw=1.4, ls=(0, (2, 1)))
            right.annotate("paper: PALS +12.1 %", (0.0, 1.0 + PAPER_GAIN), fontsize=7.5,
                           xycoords=("axes fraction", "data"), xytext=(2, 3),
                           textcoords="offset points")  # fmt: skip
            left.set_title("(a) Time below target, %")
            right.set_title("(b) Tokens per joule, Baseline = 1")
            labels = [CONTROLLERS.get(name, (name, ""))[0] for name in names]
            for axis in axes:
                axis.set_xticks(range(len(names)), labels, fontsize=8)
                axis.grid(visible=False, axis="x")
            handles, texts = left.get_legend_handles_labels()
            figure.legend(handles, texts, loc="outside lower center", ncols=4)

    def _claims(self, runs: Sequence[Run], others: Sequence[Run]) -> list[Claim]:
        by_variant = {
            name: [run for run in others if run.variant == name]
            for name in dict.fromkeys(run.variant for run in others)
        }
        claims = []
        for name, paper, what in (
            ("static", PAPER_BASELINE, "Baseline is below target 18.7 to 35.2 % of the time"),
            ("pals", PAPER_PALS, "PALS is below target 3.2 to 5.3 % of the time"),
        ):
            rates = self._rates(runs, name)
            ours = mean_interval(rates)
            nodes = ", ".join(
                f"{model_label(m)} {rate:.1%}"
                for m, rate in zip(self.nodes.values(), rates.mean(axis=0), strict=True)
            )
            readings = self._rate_readings(runs, by_variant, name)
            verdict = evaluate(paper, ours, 0.0)
            if verdict == DIRECTION:  # any rate is above zero: PALS has to be below Baseline
                fewer = mean_interval(self._rates(runs, "static") - self._rates(runs, "pals"))
                verdict = NOT_REPRODUCED
                if name == "pals":
                    verdict = max(evaluate(PAPER_DIFFERENCE, fewer, 0.0), DIRECTION, key=_STRICT)
            claims.append(
                Claim(
                    f"fig09.violations_{name}", "fig09", what, list(paper), *ours,
                    f"{self._setting()}; plain reading; by node: {nodes}",
                    verdict,
                    "Where arrivals are Poisson and come at the target's rate, throughput in a "
                    "window is below target whenever fewer requests happen to come, whatever "
                    "the controller: no controller can be far below Baseline in this reading. "
                    "Where work always waits, arrivals make no noise, and Baseline meets its "
                    "targets. Both ranges at once would need a load that Baseline cannot carry "
                    "within the budget and another setting can. Readings that have Baseline and "
                    f"PALS in their ranges: {self._both(runs, by_variant)}.",
                    "arrival rates beside the targets, window and tolerance of a violation, what "
                    "the 4,800 W cover, and how Baseline is held to them",
                    "fraction of time", tuple(readings),
                )
            )  # fmt: skip
        claims.append(self._factor(runs, by_variant))
        gain = interval_of(self._gain(runs, "pals") - 1.0)
        readings = [
            Reading("energy of the whole nodes",
                    *interval_of(self._gain(runs, "pals", "tokens_per_joule_system") - 1.0)),
            *(Reading(name, *interval_of(self._gain(own, "pals") - 1.0))
              for name, own in by_variant.items()),
        ]  # fmt: skip
        claims.append(
            Claim(
                "fig09.efficiency", "fig09", "PALS has +12.1 % tokens/J in aggregate", PAPER_GAIN,
                *gain, self._setting(), evaluate(PAPER_GAIN, gain, 0.0),
                "Nodes whose targets leave room run at caps below what the budget leaves them; "
                f"meanwhile PALS delivers less than Baseline would {self._strict(runs):.1%} of "
                "the time (reference-relative reading, mean over nodes).",
                "whose energy is counted, and the violations it is bought with",
                "fraction", tuple(readings),
            )
        )  # fmt: skip
        return claims

    def _both(self, runs: Sequence[Run], by_variant: dict[str, list[Run]]) -> str:
        """Returns the readings in which both of the paper's ranges are met."""
        base, pals = (self._rate_readings(runs, by_variant, name) for name in ("static", "pals"))
        met = [
            first.choice
            for first, second in zip(base, pals, strict=True)
            if PAPER_BASELINE[0] <= first.value <= PAPER_BASELINE[1]
            and PAPER_PALS[0] <= second.value <= PAPER_PALS[1]
        ]
        return "; ".join(met) or "none"

    def _strict(self, runs: Sequence[Run]) -> float:
        return float(np.mean(self._rates(runs, "pals", "qos_violation_rate")))

    def _rate_readings(
        self, runs: Sequence[Run], by_variant: dict[str, list[Run]], name: str
    ) -> list[Reading]:
        own = [
            Reading(f"reading: {text}", *mean_interval(self._rates(runs, name, key)))
            for key, text in READINGS.items()
        ]
        own += [
            Reading(f"{variant}, {text.partition(':')[0]}",
                    *mean_interval(self._rates(variant_runs, name, key)))
            for variant, variant_runs in by_variant.items()
            for key, text in list(READINGS.items())[:2]
        ]  # fmt: skip
        return own

    def _factor(self, runs: Sequence[Run], by_variant: dict[str, list[Run]]) -> Claim:
        def factor(own: Sequence[Run], key: str = "qos_violation_rate_plain") -> Interval:
            base, pals = (self._rates(own, name, key).mean(axis=1) for name in ("static", "pals"))
            return interval_of(base / np.maximum(pals, 1e-4))

        ours = factor(runs)
        verdict = evaluate(PAPER_FACTOR, ours, 1.0)
        readings = [
            Reading(f"reading: {text}", *factor(runs, key)) for key, text in READINGS.items()
        ]
        readings += [Reading(f"{name}, plain", *factor(own)) for name, own in by_variant.items()]
        return Claim(
            "fig09.factor", "fig09", "PALS has 4 to 7 times fewer violations than Baseline",
            list(PAPER_FACTOR), *ours, self._setting(), verdict,
            "Follows from the two claims before: arrival noise is common to all controllers. "
            "(Violations below 0.01 % of the time count as 0.01 %.)",
            "the same as for the two claims before", "x", tuple(readings),
        )  # fmt: skip

    def _latency(self, runs: Sequence[Run], names: list[str], missing: list[str]) -> Result:
        return Result(
            title="Figure 9 by latency: what throughput QoS does not show",
            caption=(
                f"The runs of figure 9: {self._setting()}. TTFT and TPOT p99 over all requests, "
                f"against SLOs of {self.ttft_slo_s:g} s and {1e3 * self.tpot_slo_s:g} ms, beside "
                "throughput QoS relative to Baseline's output. Nobody is told the SLOs but the "
                "agents, who observe them."
            ),
            rows=self._rows(runs),
            draw=lambda file: self._draw_latency(runs, names, file),
            notes=missing,
        )

    def _draw_latency(self, runs: Sequence[Run], names: list[str], file: Path) -> None:
        panels = (
            ("qos_violation_rate", "Throughput QoS violated, % of time", 100.0, None),
            ("slo_violation_rate", "Requests that miss an SLO, %", 100.0, None),
            ("ttft_p99_s", "TTFT p99, s", 1.0, self.ttft_slo_s),
            ("tpot_p99_s", "TPOT p99, ms", 1e3, 1e3 * self.tpot_slo_s),
        )
        with saved_plot(stem(file), 2, 2, (1.6 + 1.15 * len(names), 6.0), formats=FORMATS) as (
            figure,
            axes,
        ):
            for axis, (key, title, factor, slo) in zip(axes.flat, panels, strict=True):
                for x, name in enumerate(names):
                    rates = factor * self._rates(runs, name, key)
                    for place, color in enumerate((BLUE, ORANGE, GREEN)[: len(self.nodes)]):
                        bar(axis, x + 0.26 * (place - 1), interval_of(rates[:, place]), 0.24,
                            color, label=model_label(list(self.nodes.values())[place])
                            if x == 0 else None)  # fmt: skip
                if slo is not None:
                    axis.axhline(slo, color=RED, ls="--", lw=1.2, label="SLO")
                axis.set_title(title)
                axis.set_xticks(
                    range(len(names)), [CONTROLLERS.get(n, (n, ""))[0] for n in names], fontsize=7.5
                )
                axis.grid(visible=False, axis="x")
            handles, texts = axes.flat[-1].get_legend_handles_labels()
            figure.legend(handles, texts, loc="outside lower center", ncols=4)
