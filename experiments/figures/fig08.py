"""Figure 8: the efficiency that a fixed tensor-parallel size leaves, against the cap."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from experiments.evaluation.statistics import FloatArray
from experiments.figures.base import Figure, Result, Row
from experiments.figures.claims import (
    DIRECTION,
    NOT_REPRODUCED,
    REPRODUCED,
    Claim,
    Reading,
    interval_of,
)
from experiments.figures.context import Workshop
from experiments.figures.grid import Found, best, knob_grid
from experiments.figures.plot_marks import FORMATS, line, model_label, stem
from experiments.figures.saturation import SCOPES, SteadyConfig
from experiments.reporting.plot_style import saved_plot

NEAR_ZERO = 0.02
"""Headroom below this counts as near zero."""


@dataclass(kw_only=True)
class Fig08(Figure):
    """Figure 8 of arXiv:2605.21427.

    Attributes:
        gpu: GPU type.
        models: Models.
        caps_w: Power caps.
        batches: Batch limits to choose from.
        tensors: Tensor-parallel sizes to choose from.
        fixed: The size that is fixed.
        lengths: Request lengths.
        steady: How a server is measured.
    """

    gpu: str = "a100_sxm4_80gb"
    models: list[str] = field(default_factory=list)
    caps_w: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    tensors: list[int] = field(default_factory=lambda: [1, 2, 4])
    fixed: int = 4
    lengths: str = "gsm8k"
    steady: SteadyConfig = field(default_factory=SteadyConfig)

    def make(self, workshop: Workshop) -> Result:
        """See :meth:`Figure.make`."""
        points = knob_grid(
            self.models, self.caps_w, self.batches, self.tensors, self.lengths, self.gpu
        )
        found = workshop.measure("full servers", points, self.steady)
        return Result(
            title="Headroom left by a fixed tensor-parallel size",
            caption=(
                "Highest tokens/J at a cap over all tensor-parallel sizes and batches, against "
                f"the highest with each fixed size; left: TP {self.fixed} (GPUs in use only), "
                "right: the size fixed that is best at the highest cap. Bands: 95 % intervals "
                f"over {self.steady.seeds} seeds. Lengths `{self.lengths}`."
            ),
            rows=self._rows(found),
            draw=lambda file: self._draw(found, file),
            claims=[self._claim(found)],
        )

    def headroom(
        self, found: Found, model: str, fixed: int | None = None, scope: str = "gpu"
    ) -> FloatArray:
        """Returns tokens/J lost by a fixed size, as a fraction, shape ``(caps, seeds)``."""
        size = fixed or self.best_size(found, model)
        rows = []
        for cap_w in self.caps_w:
            at_cap = {point: own for point, own in found.items() if point.cap_w == cap_w}
            every = best(at_cap, model, lambda point: True, scope=scope)
            own = best(at_cap, model, lambda point: point.tensor == size, scope=scope)
            rows.append(every / own - 1.0)
        return np.array(rows)

    def best_size(self, found: Found, model: str) -> int:
        """Returns the tensor-parallel size with the most tokens/J at the highest cap."""
        top = max(self.caps_w)
        sizes = sorted({point.tensor for point in found if point.model == model})

        def efficiency(size: int) -> float:
            wanted = best(found, model, lambda point: point.cap_w == top and point.tensor == size)
            return float(np.mean(wanted))

        return max(sizes, key=efficiency)

    def _rows(self, found: Found) -> list[Row]:
        rows: list[Row] = []
        for model in self.models:
            for fixed in (self.fixed, self.best_size(found, model)):
                for cap, own in zip(self.caps_w, self.headroom(found, model, fixed), strict=True):
                    value = interval_of(own)
                    rows.append({
                        "model": model, "fixed_tensor_parallel": fixed, "power_cap_w": cap,
                        "headroom": value.value, "headroom_low": value.low,
                        "headroom_high": value.high,
                    })  # fmt: skip
        return rows

    def _draw(self, found: Found, file: Path) -> None:
        with saved_plot(stem(file), 1, 2, (8.4, 4.1), formats=FORMATS) as (figure, axes):
            for axis, fixed, title in (
                (axes[0], self.fixed, f"TP fixed at {self.fixed}"),
                (axes[1], None, "TP fixed at its best for the highest cap"),
            ):
                for model in self.models:
                    own = [interval_of(100.0 * v) for v in self.headroom(found, model, fixed)]
                    line(axis, self.caps_w, own, model)
                axis.set_title(title)
                axis.set_xlabel("Power cap per GPU, W")
                axis.set_ylim(bottom=0.0)
            axes[0].set_ylabel("Headroom in tokens per joule, %")
            handles, labels = axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=4)

    def _claim(self, found: Found) -> Claim:
        low, high = min(self.caps_w), max(self.caps_w)
        first, last = self.caps_w.index(low), self.caps_w.index(high)
        between = [i for i, cap in enumerate(self.caps_w) if low < cap < high]
        mean = {m: self.headroom(found, m).mean(axis=1) for m in self.models}
        near = [m for m in self.models if mean[m][between].max(initial=0.0) < NEAR_ZERO]
        grow = [m for m in self.models if mean[m][first] > NEAR_ZERO]
        many = 2 * len(near) >= len(self.models)
        verdict = NOT_REPRODUCED
        if many or grow:
            verdict = REPRODUCED if many and grow else DIRECTION
        fixed = {m: self.headroom(found, m, self.fixed).mean(axis=1) for m in self.models}
        listed = ", ".join(
            f"{model_label(m)} {own[last]:.0%} ({own[first]:.0%})" for m, own in fixed.items()
        )
        readings = tuple(
            Reading(
                f"headroom of {model_label(m)}, TP {self.fixed} fixed, {cap:g} W, {scope} energy",
                *interval_of(self.headroom(found, m, self.fixed, scope)[index]),
            )
            for m in self.models
            for scope in SCOPES
            for cap, index in ((low, first), (high, last))
        )
        return Claim(
            "fig08.headroom", "fig08",
            "the headroom left by a fixed TP is near zero for many models and grows at low caps "
            "for some", "near zero for many", len(near) / len(self.models), None, None,
            f"fraction of {len(self.models)} models whose headroom stays below {NEAR_ZERO:.0%} at "
            f"all caps between {low:g} and {high:g} W, TP fixed at the size that is best at "
            f"{high:g} W (there it is zero by construction)",
            verdict,
            f"At {low:g} W it is above {NEAR_ZERO:.0%} for "
            f"{', '.join(map(model_label, grow)) or 'none'}. With "
            f"TP fixed at {self.fixed} whatever the model, headroom at {high:g} W (at {low:g} W "
            f"in brackets) is {listed}: small models are served best by fewer GPUs.",
            "which TP was fixed, and whether idle GPUs count",
            "fraction of models", readings,
        )  # fmt: skip
