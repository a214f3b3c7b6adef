"""Figure 2: time spent computing and time spent communicating."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from envs.errors import ConfigurationError
from envs.simulator.calibration import Calibration, randomize
from envs.simulator.interconnect import communication
from envs.simulator.server_spec import ServerSpec
from envs.simulator.step_model import compile_step_model, resolve_step
from experiments.evaluation.statistics import FloatArray
from experiments.figures.base import Figure, Result, Row
from experiments.figures.claims import (
    DIRECTION,
    NOT_REPRODUCED,
    REPRODUCED,
    Claim,
    spread_of,
)
from experiments.figures.context import Workshop
from experiments.figures.plot_marks import FORMATS, model_label, stem
from experiments.figures.saturation import Point, is_possible, server_spec_of
from experiments.reporting.plot_style import BLACK, BLUE, ORANGE, saved_plot

Times = tuple[FloatArray, FloatArray]
"""Computing and communicating seconds of a mean engine step, one a draw; the nominal first."""


CLEARLY_MORE = 1.5
"""Times Mixtral's share from which communication counts as clearly more."""


@dataclass(kw_only=True)
class Fig02(Figure):
    """Figure 2 of arXiv:2605.21427.

    Attributes:
        gpu: GPU type.
        models: Models.
        tensors: Tensor-parallel sizes.
        batches: Batch sizes.
        lengths: Request lengths.
        draws: Draws of the coefficients within their uncertainty.
    """

    gpu: str = "a100_sxm4_80gb"
    models: list[str] = field(default_factory=list)
    tensors: list[int] = field(default_factory=lambda: [2, 4])
    batches: list[int] = field(default_factory=lambda: [1, 16, 64])
    lengths: str = "gsm8k"
    draws: int = 200

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: There are too few draws.
        """
        if self.draws < 2:
            raise ConfigurationError(f"figure.draws: must be at least 2, got {self.draws}")

    def make(self, workshop: Workshop) -> Result:
        """See :meth:`Figure.make`."""
        times: dict[Point, Times] = {}
        points = [
            Point(model, 0.0, batch, tensor=tensor, lengths=self.lengths, gpu=self.gpu)
            for model in self.models for tensor in self.tensors for batch in self.batches
        ]  # fmt: skip
        for done, point in enumerate(points, start=1):
            if is_possible(point):
                times[point] = self._times(server_spec_of(point), point.batch)
            workshop.tell("steps", done, len(points))
        return Result(
            title="Compute and communication time by model and configuration",
            caption=(
                "A mean engine step of a full server without a cap: every sequence decodes one "
                "token, and the prompts come in at the rate at which requests finish. Bars: "
                "fraction of the step's time, nominal coefficients; whiskers: the middle 90 % of "
                f"{self.draws} draws of the coefficients within their uncertainty. Computing "
                "counts "
                "everything that is not communication, memory reads and launches included."
            ),
            rows=[self._row(point, own) for point, own in times.items()],
            draw=lambda file: self._draw(times, file),
            claims=self._claims(times),
        )

    def _times(self, server_spec: ServerSpec, batch: int) -> Times:
        rng = np.random.default_rng(0)
        drawn = [server_spec.coefficients]
        drawn += [randomize(server_spec.coefficients, rng) for _ in range(self.draws)]
        pairs = np.array([_step(server_spec, k, batch) for k in drawn])
        return pairs[:, 0], pairs[:, 1]

    def _row(self, point: Point, times: Times) -> Row:
        fraction = times[1] / (times[0] + times[1])
        low, high = np.percentile(fraction[1:], [5, 95])
        return {
            "model": point.model, "tensor_parallel": point.tensor, "batch": point.batch,
            "compute_s": times[0][0], "communication_s": times[1][0],
            "communication_fraction": fraction[0], "communication_fraction_low": low,
            "communication_fraction_high": high,
        }  # fmt: skip

    def _draw(self, times: dict[Point, Times], file: Path) -> None:
        size = (2.9 * len(self.models), 3.6)
        count = len(self.models)
        with saved_plot(
            stem(file), 1, count, size, formats=FORMATS, sharey=True, squeeze=False
        ) as (
            figure,
            grid,
        ):
            for axis, model in zip(grid[0], self.models, strict=True):
                own = [(point, t) for point, t in times.items() if point.model == model]
                for x, (_, (compute, talk)) in enumerate(own):
                    fraction = 100.0 * talk / (compute + talk)
                    low, high = np.percentile(fraction[1:], [5, 95])
                    axis.bar(x, 100.0 - fraction[0], 0.7, color=BLUE,
                             label="compute" if x == 0 else None)  # fmt: skip
                    axis.bar(x, fraction[0], 0.7, bottom=100.0 - fraction[0], color=ORANGE,
                             hatch="//", edgecolor="white",
                             label="communication" if x == 0 else None,
                             )  # fmt: skip
                    axis.plot([x, x], [100.0 - high, 100.0 - low], color=BLACK, lw=1.2)
                axis.set_xticks(
                    range(len(own)), [f"TP{p.tensor}\nB{p.batch}" for p, _ in own], fontsize=7.5
                )
                axis.set_title(model_label(model))
                axis.grid(visible=False, axis="x")
            grid[0][0].set_ylabel("Fraction of a step's time, %")
            handles, labels = grid[0][0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=2)

    def _claims(self, times: dict[Point, Times]) -> list[Claim]:
        claims = []
        for model, bound in (
            ("mixtral_8x7b", "compute"),
            ("qwen15_moe_a27b", "communication"),
            ("olmoe_1b_7b", "communication"),
        ):
            highest = [p for p in times if p.model == model and p.tensor == max(self.tensors)]
            if not highest:
                continue
            point = max(highest, key=lambda p: p.batch)
            fraction = times[point][1] / (times[point][0] + times[point][1])
            low, high = np.percentile(fraction[1:], [5, 95])
            talks = fraction[0] > 0.5
            verdict = REPRODUCED if talks == (bound == "communication") else NOT_REPRODUCED
            mixtral = next((p for p in times if p.model == "mixtral_8x7b"
                            and p[1:] == point[1:]), None)  # fmt: skip
            if verdict == NOT_REPRODUCED and mixtral is not None:
                base = times[mixtral][1][0] / (times[mixtral][0][0] + times[mixtral][1][0])
                if fraction[0] > CLEARLY_MORE * base:
                    verdict = DIRECTION
            claims.append(
                Claim(
                    f"fig02.bound_{model}", "fig02",
                    f"{model_label(model)} is {bound}-bound at high TP and batch",
                    f"{bound}-bound", float(fraction[0]), float(min(low, fraction[0])), float(high),
                    f"communication's fraction of a mean step at TP {point.tensor}, batch "
                    f"{point.batch}, lengths {self.lengths}; interval: middle 90 % over the "
                    "uncertainty of the coefficients, and the nominal value (bound by "
                    "communication means "
                    f"more than half; in direction: {CLEARLY_MORE:g} times Mixtral's share)",
                    verdict,
                    "Over NVLink an all-reduce of a few hundred tokens takes microseconds. The "
                    "share is the larger the smaller a model's layers are, but launches, memory "
                    "reads and the scheduler's time weigh more for small models.",
                    "how compute and communication time were told apart, and whether waiting "
                    "for other ranks and launch overhead count as communication",
                    "fraction", (spread_of("coefficients within their uncertainty", fraction[1:]),),
                )
            )  # fmt: skip
        return claims


def _step(server_spec: ServerSpec, k: Calibration, batch: int) -> tuple[float, float]:
    """Returns computing and communicating seconds of a mean step of a full batch."""
    prompt, output = (
        server_spec.workload.mean_prompt_tokens,
        server_spec.workload.mean_output_tokens,
    )
    prefill = batch * prompt / output
    c = compile_step_model(server_spec.gpu, server_spec.model, server_spec.parallelism, k)
    time_s, _, _, _ = resolve_step(
        c, float(batch), batch * (prompt + 0.5 * output), prefill, 0.5 * prefill * prompt,
        server_spec.gpu.power_cap_max_w, 1.0,
    )  # fmt: skip
    per_step, per_token = communication(
        server_spec.gpu, server_spec.model, server_spec.parallelism, k
    )
    talk_s = per_step + per_token * (batch + prefill)
    return float(time_s - talk_s), float(talk_s)
