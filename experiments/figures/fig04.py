"""Figures 4 and 5: efficiency and throughput over several nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from envs.errors import ConfigurationError
from experiments.evaluation.statistics import FloatArray
from experiments.figures.base import Figure, Result, Row
from experiments.figures.claims import (
    DIRECTION,
    NOT_REPRODUCED,
    REPRODUCED,
    Claim,
    Reading,
    evaluate,
    interval_of,
    reading,
    spread_of,
)
from experiments.figures.context import Workshop
from experiments.figures.grid import Found
from experiments.figures.plot_marks import FORMATS, line, model_label, stem
from experiments.figures.saturation import COUNTS, SCOPES, Point, SteadyConfig
from experiments.reporting.plot_style import BLACK, saved_plot

PAPER = {"qwen15_moe_a27b": -0.30, "mixtral_8x7b": -0.15}
"""Change of tokens/J from one node to three (arXiv:2605.21427 Fig. 4)."""
LAYOUTS = {
    "spread": "experts over all nodes, a full batch a node",
    "spread, one batch": "experts over all nodes, one batch shared by the nodes",
    "replicas": "whole replicas, a full batch a node",
    "replicas, one batch": "whole replicas, one batch shared by the nodes",
}


@dataclass(kw_only=True)
class Fig04(Figure):
    """Figure 4 or 5 of arXiv:2605.21427.

    Attributes:
        number: ``fig04`` or ``fig05``.
        gpu: GPU type.
        models: Models.
        nodes: Numbers of nodes.
        tensor: Tensor-parallel size within a node.
        cap_w: Power cap.
        batch: Batch limit.
        layout: How several nodes share the work; one of :data:`LAYOUTS`.
        lengths: Request lengths.
        other_lengths: Request lengths that the claims are tried with besides.
        steady: How a server is measured.
    """

    number: str = "fig04"
    gpu: str = "a100_sxm4_80gb"
    models: list[str] = field(default_factory=list)
    nodes: list[int] = field(default_factory=lambda: [1, 2, 3])
    tensor: int = 4
    cap_w: float = 400.0
    batch: int = 64
    layout: str = "spread"
    lengths: str = "gsm8k"
    other_lengths: list[str] = field(default_factory=list)
    steady: SteadyConfig = field(default_factory=SteadyConfig)

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: The layout or number is unknown.
        """
        if self.layout not in LAYOUTS:
            raise ConfigurationError(
                f"figure.layout: must be one of {', '.join(LAYOUTS)}, got {self.layout!r}"
            )
        if self.number not in ("fig04", "fig05"):
            raise ConfigurationError(f"figure.number: fig04 or fig05, got {self.number!r}")

    def make(self, workshop: Workshop) -> Result:
        """See :meth:`Figure.make`."""
        points = [
            self._point(model, nodes, layout, lengths)
            for model in self.models for nodes in self.nodes for layout in LAYOUTS
            for lengths in [self.lengths, *self.other_lengths]
        ]  # fmt: skip
        found = workshop.measure("full servers", points, self.steady)
        own = [self._point(m, n, self.layout, self.lengths) for m in self.models
               for n in self.nodes]  # fmt: skip
        uncertainty = workshop.measure("uncertainty", own, self.steady, uncertainty=True)
        claims = self._loss_claims(found, uncertainty)
        if self.number == "fig05":
            claims = self._slope_claims(found, uncertainty)
        what = "Scaling over nodes" if self.number == "fig04" else "Expert parallelism over nodes"
        return Result(
            title=f"{what}: tokens per joule and throughput",
            caption=(
                f"Always full servers, TP {self.tensor} within a node, {self.cap_w:g} W, lengths "
                f"`{self.lengths}`; {LAYOUTS[self.layout]} (batch {self.batch}). All values "
                f"relative to one node. Bands: 95 % intervals over {self.steady.seeds} seeds; "
                "thin lines: the other layouts."
            ),
            rows=self._rows(found),
            draw=lambda file: self._draw(found, file),
            claims=claims,
        )

    def _point(self, model: str, nodes: int, layout: str, lengths: str) -> Point:
        batch = max(1, self.batch // nodes) if "one batch" in layout else self.batch
        wide = self.tensor * nodes
        # Within one node experts are split by TP alone unless the figure is about EP.
        expert = wide if layout.startswith("spread") else (
            self.tensor if self.number == "fig05" else 1
        )  # fmt: skip
        if self.number == "fig04" and nodes == 1:
            expert = 1
        return Point(
            model, self.cap_w, batch, tensor=self.tensor, expert=expert, data=nodes,
            lengths=lengths, gpu=self.gpu,
        )  # fmt: skip

    def series(
        self, found: Found, model: str, layout: str | None = None, lengths: str | None = None,
        count: str = "total", scope: str = "gpu", what: str = "per_joule",
    ) -> FloatArray:  # fmt: skip
        """Returns a figure relative to one node, shape ``(nodes, seeds)``."""
        names = lengths or self.lengths
        steady = [found[self._point(model, n, layout or self.layout, names)] for n in self.nodes]
        values = np.array([
            s.per_joule(count, scope) if what == "per_joule" else s.tokens_per_s(count)
            for s in steady
        ])  # fmt: skip
        return np.asarray(values / values[0])

    def _rows(self, found: Found) -> list[Row]:
        rows: list[Row] = []
        for model in self.models:
            for layout in LAYOUTS:
                ratio = self.series(found, model, layout)
                system = self.series(found, model, layout, scope="system")
                rate = self.series(found, model, layout, what="rate")
                for index, nodes in enumerate(self.nodes):
                    own = interval_of(ratio[index])
                    rows.append({
                        "model": model, "nodes": nodes, "layout": layout,
                        "tokens_per_joule_relative": own.value,
                        "tokens_per_joule_relative_low": own.low,
                        "tokens_per_joule_relative_high": own.high,
                        "tokens_per_joule_system_relative": interval_of(system[index]).value,
                        "throughput_relative": interval_of(rate[index]).value,
                    })  # fmt: skip
        return rows

    def _draw(self, found: Found, file: Path) -> None:
        titles = {"per_joule": "Tokens per joule, 1 node = 1", "rate": "Throughput, 1 node = 1"}
        with saved_plot(stem(file), 1, 2, (8.4, 3.9), formats=FORMATS) as (figure, axes):
            for axis, (what, title) in zip(axes, titles.items(), strict=True):
                for model in self.models:
                    for layout in LAYOUTS:
                        own = [interval_of(v)
                               for v in self.series(found, model, layout, what=what)]  # fmt: skip
                        if layout == self.layout:
                            line(axis, self.nodes, own, model)
                        else:
                            line(axis, self.nodes, own, model, label=None, band=False, lw=0.6,
                                 ms=2.5,
                                 alpha=0.5, ls=":")  # fmt: skip
                    if what == "per_joule" and self.number == "fig04" and model in PAPER:
                        axis.plot(self.nodes[-1] + 0.07, 1.0 + PAPER[model], marker="_", ms=14,
                                  mew=2, color=BLACK, zorder=6)  # fmt: skip
                        axis.annotate(
                            f"paper: {model_label(model)} {PAPER[model]:+.0%}",
                            (self.nodes[-1] + 0.02, 1.0 + PAPER[model]), xytext=(-10, 4),
                            textcoords="offset points", fontsize=7.5, ha="right",
                        )  # fmt: skip
                axis.set_title(title)
                axis.set_xlabel("Nodes of 4 GPUs")
                axis.set_xticks(self.nodes)
                axis.set_ylim(bottom=0)
            handles, labels = axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=4)

    def _readings(self, found: Found, uncertainty: Found, model: str) -> list[Reading]:
        own = []
        for lengths in [self.lengths, *self.other_lengths]:
            for layout, text in LAYOUTS.items():
                for scope in SCOPES:
                    for count in COUNTS if lengths == self.lengths else COUNTS[:1]:
                        values = self.series(found, model, layout, lengths, count, scope)[-1]
                        choice = f"{text}; lengths {lengths}, {count} tokens, {scope} energy"
                        own.append(reading(choice, values - 1.0))
        own.append(spread_of("coefficients (network, too) within their uncertainty (middle 90 %)",
                             self.series(uncertainty, model)[-1] - 1.0))  # fmt: skip
        return own

    def _loss_claims(self, found: Found, uncertainty: Found) -> list[Claim]:
        claims = []
        for model in [name for name in PAPER if name in self.models]:
            paper, ours = PAPER[model], interval_of(self.series(found, model)[-1] - 1.0)
            readings = self._readings(found, uncertainty, model)
            nearest = min(readings, key=lambda r: abs(r.value - paper))
            claims.append(
                Claim(
                    f"fig04.loss_{model}", "fig04",
                    f"at 3 nodes {model_label(model)} has {paper:+.0%} tokens/J", paper, *ours,
                    f"{self.nodes[-1]} nodes against one; {LAYOUTS[self.layout]}; "
                    f"{self.cap_w:g} W, lengths {self.lengths}, all tokens over GPU energy",
                    evaluate(paper, ours, 0.0),
                    "Whole replicas lose nothing. Spread experts pay two exchanges a layer over "
                    "InfiniBand, but GPUs that wait draw less, and each expert's weights are "
                    "read once for the tokens of all nodes, which works the other way. Readings "
                    f"span {min(r.value for r in readings):+.0%} to "
                    f"{max(r.value for r in readings):+.0%}; nearest to the paper: "
                    f"'{nearest.choice}' with {nearest.value:+.0%}.",
                    "what the nodes share (experts, batch, or nothing), the network's bandwidth "
                    "and whether the batch of 64 is a node's or all nodes'",
                    "fraction", tuple(readings),
                )
            )  # fmt: skip
        return claims

    def _slope_claims(self, found: Found, uncertainty: Found) -> list[Claim]:
        losses = {m: interval_of(self.series(found, m)[-1] - 1.0) for m in self.models}
        worst = max(losses, key=lambda m: losses[m].value)
        all_fall = all(value.high < 0 for value in losses.values())
        small = [m for m in ("olmoe_1b_7b", "qwen15_moe_a27b") if m in losses]
        steeper = all(
            losses[m].value < losses["mixtral_8x7b"].value for m in small
        ) if "mixtral_8x7b" in losses else False  # fmt: skip
        verdict = NOT_REPRODUCED
        if all_fall:
            verdict = REPRODUCED if steeper else DIRECTION
        elif steeper:
            verdict = DIRECTION
        listed = ", ".join(f"{model_label(m)} {v.value:+.0%}" for m, v in losses.items())
        readings = tuple(
            Reading(f"{model_label(m)}: {r.choice}", r.value, r.low, r.high)
            for m in self.models for r in self._readings(found, uncertainty, m)
        )  # fmt: skip
        return [
            Claim(
                "fig05.all_fall", "fig05",
                "tokens/J of all models fall with expert parallelism over nodes, the steeper "
                "the more they communicate", "all fall", *losses[worst],
                f"change from one node to {self.nodes[-1]}, {LAYOUTS[self.layout]}: {listed}; "
                f"the value is that of {model_label(worst)}, which falls least",
                verdict,
                "Qwen1.5-MoE and OLMoE are the ones that are said to communicate most. "
                "(Reproduced: all intervals below zero and both fall more than Mixtral; in "
                "direction: one of the two.) Experts that serve the tokens of all nodes read "
                "their weights once for more tokens, which can outweigh the exchange.",
                "the batch per node and in all, the network, and which kernels exchange tokens",
                "fraction", readings,
            )
        ]  # fmt: skip
