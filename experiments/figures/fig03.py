"""Figure 3: Pareto frontiers of throughput and efficiency, by which knobs may move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from experiments.evaluation.statistics import FloatArray
from experiments.figures.base import Figure, Result, Row
from experiments.figures.claims import Claim, Reading, evaluate, interval_of, reading, spread_of
from experiments.figures.context import Workshop
from experiments.figures.grid import Found, best, frontier, knob_grid
from experiments.figures.plot_marks import FORMATS, model_label, stem
from experiments.figures.saturation import COUNTS, SCOPES, Point, SteadyConfig
from experiments.reporting.plot_style import BLACK, GREEN, ORANGE, SKY, saved_plot

PAPER = {"mixtral_8x7b": 1.18, "qwen15_moe_a27b": 1.13, "olmoe_1b_7b": 1.14}
"""Peak efficiency of all knobs over software knobs alone (arXiv:2605.21427 Fig. 3)."""
_STYLE = {
    "SW only (batch, TP)": (ORANGE, "s", 1.4),
    "HW only (cap)": (BLACK, "x", 1.2),
    "cap, batch": (GREEN, "^", 3.4),
    "cap, batch, TP": (SKY, "o", 6.0),
}
"""Colour, mark and width; what holds more settings is wider and lies below."""


@dataclass(kw_only=True)
class Fig03(Figure):
    """Figure 3 of arXiv:2605.21427.

    Attributes:
        gpu: GPU type.
        models: Models.
        caps_w: Power caps.
        batches: Batch limits.
        tensors: Tensor-parallel sizes; the largest is the one that is fixed otherwise.
        fixed_cap_w: Cap of the software knobs alone (the paper's Baseline has 400 W; the
            figure's text speaks of 300 W, which is a reading).
        other_cap_w: That other reading.
        fixed_batch: Batch limit of the cap alone.
        lengths: Request lengths.
        other_lengths: Request lengths that the claims are tried with besides.
        steady: How a server is measured.
    """

    gpu: str = "a100_sxm4_80gb"
    models: list[str] = field(default_factory=list)
    caps_w: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    tensors: list[int] = field(default_factory=lambda: [1, 2, 4])
    fixed_cap_w: float = 400.0
    other_cap_w: float = 300.0
    fixed_batch: int = 64
    lengths: str = "gsm8k"
    other_lengths: list[str] = field(default_factory=list)
    steady: SteadyConfig = field(default_factory=SteadyConfig)

    def make(self, workshop: Workshop) -> Result:
        """See :meth:`Figure.make`."""
        found = workshop.measure("full servers", self._points(self.lengths), self.steady)
        uncertainty = workshop.measure(
            "uncertainty", self._points(self.lengths), self.steady, uncertainty=True
        )
        others = {
            name: workshop.measure(f"lengths {name}", self._points(name), self.steady)
            for name in self.other_lengths
        }
        claims = [self._joint(model, found, uncertainty, others) for model in self.models]
        claims.append(self._tensor_claim(found, uncertainty, others))
        return Result(
            title="Pareto frontiers of throughput and energy efficiency",
            caption=(
                f"Always full servers, lengths `{self.lengths}`, prompt and output tokens, GPU "
                "energy of the GPUs in use. Faint marks: all settings; lines: the frontier of "
                "each set of knobs; means over "
                f"{self.steady.seeds} seeds (intervals are smaller than the marks). Knobs that "
                f"do not move stand at {self.fixed_cap_w:g} W, batch {self.fixed_batch}, TP "
                f"{max(self.tensors)}."
            ),
            rows=self._rows(found),
            draw=lambda file: self._draw(found, file),
            claims=claims,
        )

    def _points(self, lengths: str) -> list[Point]:
        return knob_grid(self.models, self.caps_w, self.batches, self.tensors, lengths, self.gpu)

    def _sets(self, cap_w: float | None = None) -> dict[str, Callable[[Point], bool]]:
        cap, tensor, batch = cap_w or self.fixed_cap_w, max(self.tensors), self.fixed_batch
        return {
            "SW only (batch, TP)": lambda p: p.cap_w == cap,
            "HW only (cap)": lambda p: p.batch == batch and p.tensor == tensor,
            "cap, batch": lambda p: p.tensor == tensor,
            "cap, batch, TP": lambda p: True,
        }

    def _rows(self, found: Found) -> list[Row]:
        rows: list[Row] = []
        for point, own in found.items():
            rate, ratio = interval_of(own.tokens_per_s()), interval_of(own.per_joule())
            rows.append({
                "model": point.model, "power_cap_w": point.cap_w, "batch": point.batch,
                "tensor_parallel": point.tensor, "tokens_per_s": rate.value,
                "tokens_per_joule": ratio.value, "tokens_per_joule_low": ratio.low,
                "tokens_per_joule_high": ratio.high,
                **{f"in: {name}": wanted(point) for name, wanted in self._sets().items()},
            })  # fmt: skip
        return rows

    def _draw(self, found: Found, file: Path) -> None:
        count = len(self.models)
        with saved_plot(
            stem(file), 1, count, (4.0 * count, 3.9), formats=FORMATS, squeeze=False
        ) as (
            figure,
            grid,
        ):
            for axis, model in zip(grid[0], self.models, strict=True):
                own = {p: s for p, s in found.items() if p.model == model}
                for name, wanted in self._sets().items():
                    color, mark, width = _STYLE[name]
                    cloud = [
                        (float(np.mean(s.tokens_per_s())), float(np.mean(s.per_joule())))
                        for p, s in own.items() if wanted(p)
                    ]  # fmt: skip
                    axis.plot(*zip(*cloud, strict=True), mark, color=color, ms=3, alpha=0.35,
                              mew=0.6)  # fmt: skip
                    axis.plot(
                        *zip(*frontier(cloud), strict=True), mark + "-", color=color,
                        ms=4.0 + 0.8 * width, lw=width, label=name, zorder=9 - width,
                    )  # fmt: skip
                software = best(found, model, self._sets()["SW only (batch, TP)"])
                if model in PAPER:
                    goal = PAPER[model] * float(np.mean(software))
                    axis.axhline(goal, color="#222222", lw=1.2, ls=(0, (2, 1)))
                    axis.annotate(f"paper: {PAPER[model]:.2f} x SW only", (0.02, goal),
                                  xycoords=("axes fraction", "data"), xytext=(0, 3),
                                  textcoords="offset points", fontsize=7.5)  # fmt: skip
                axis.set_title(model_label(model))
                axis.set_xlabel("Tokens/s")
                axis.set_xlim(left=0)
                axis.set_ylim(bottom=0)
            grid[0][0].set_ylabel("Tokens per joule")
            handles, labels = grid[0][0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=4)

    def _ratio(
        self, found: Found, model: str, over: str, cap_w: float | None = None, **choice: str
    ) -> FloatArray:
        sets = self._sets(cap_w)
        everything = best(found, model, sets["cap, batch, TP"], **choice)
        return np.asarray(everything / best(found, model, sets[over], **choice))

    def _readings(
        self, model: str, over: str, found: Found, uncertainty: Found, others: dict[str, Found]
    ) -> list[Reading]:
        own = [
            reading(f"lengths {name}, {count} tokens, {scope} energy",
                    self._ratio(measured, model, over, count=count, scope=scope))
            for name, measured in {self.lengths: found, **others}.items()
            for count in COUNTS for scope in SCOPES
        ]  # fmt: skip
        own.append(reading(f"software knobs at {self.other_cap_w:g} W",
                           self._ratio(found, model, over, self.other_cap_w)))  # fmt: skip
        own.append(spread_of("coefficients within their uncertainty (middle 90 %)",
                             self._ratio(uncertainty, model, over)))  # fmt: skip
        return own

    def _joint(
        self, model: str, found: Found, uncertainty: Found, others: dict[str, Found]
    ) -> Claim:
        over = "SW only (batch, TP)"
        ours = interval_of(self._ratio(found, model, over))
        readings = self._readings(model, over, found, uncertainty, others)
        paper = PAPER.get(model, 1.0)
        return Claim(
            f"fig03.joint_{model}", "fig03",
            f"{model_label(model)}: all knobs reach {paper} times the peak tokens/J of the "
            "software knobs", paper, *ours,
            f"full servers, {self.gpu}, all of the grid; software knobs at "
            f"{self.fixed_cap_w:g} W; lengths {self.lengths}, all tokens over GPU energy",
            evaluate(paper, ours, 1.0),
            "A cap gains what the power curve leaves between the draw without a cap and the most "
            "efficient clock. Its height rests on the clock-power curve of the A100, which is "
            "known as a range only; counted over the node's energy less remains. Readings span "
            f"{min(r.value for r in readings):.2f} to {max(r.value for r in readings):.2f}.",
            "the draw and clock at each cap, the cap that the software knobs stand at, lengths, "
            "and whose energy",
            "x", tuple(readings),
        )  # fmt: skip

    def _tensor_claim(self, found: Found, uncertainty: Found, others: dict[str, Found]) -> Claim:
        model, over = self.models[0], "cap, batch"
        gain = self._ratio(found, model, over) - 1.0
        ours = interval_of(gain)
        readings = [
            Reading(r.choice, r.value - 1.0, (r.low or 0.0) - 1.0, (r.high or 0.0) - 1.0)
            for r in self._readings(model, over, found, uncertainty, others)
            if "software knobs" not in r.choice
        ]
        return Claim(
            "fig03.tensor", "fig03", f"choosing TP, too, adds up to 15 % for {model_label(model)}",
            0.15, *ours,
            f"peak tokens/J over all tensor-parallel sizes against TP {max(self.tensors)} alone; "
            "only GPUs in use count",
            evaluate(0.15, ours, 0.0),
            "Fewer GPUs split each layer less, so each does more work per launch and per "
            "all-reduce, and less static power is drawn in all.",
            "whether GPUs that a smaller TP leaves idle draw power in the account",
            "fraction", tuple(readings),
        )  # fmt: skip
