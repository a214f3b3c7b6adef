"""Figure 2: time for computing and time for communicating, by model and configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from envs import catalog
from envs.simulator.interconnect import communication
from envs.simulator.parallelism import Parallelism
from envs.simulator.step_model import compile_step_model, resolve_step
from experiments.figures.base import FORMATS, NAMES, Made, PaperFigure
from experiments.figures.study import Study
from experiments.style import BLUE, ORANGE, picture


@dataclass(kw_only=True)
class Communication(PaperFigure):
    """Figure 2.

    Attributes:
        models: Models to show.
        tensor_parallel: Tensor-parallel sizes.
        batches: Sequences that decode.
        context_tokens: Tokens cached for each.
        prompt_tokens: Prompt tokens in a mixed step, added to show prefill.
    """

    models: list[str] = field(default_factory=list)
    tensor_parallel: list[int] = field(default_factory=lambda: [2, 4])
    batches: list[int] = field(default_factory=lambda: [1, 16, 64])
    context_tokens: float = 500.0
    prompt_tokens: list[int] = field(default_factory=lambda: [0, 1024])
    title: str = "Time of one engine step: computing and communicating"

    def make(self, study: Study) -> Made:
        """See :meth:`PaperFigure.make`."""
        gpu = catalog.build("gpu", "a100_sxm4_80gb")
        calibration = catalog.build("calibration", gpu.calibration)
        rows = []
        for name in self.models:
            model = catalog.build("model", name)
            for tensor in self.tensor_parallel:
                split = Parallelism(tensor)
                c = compile_step_model(gpu, model, split, calibration)
                per_step, per_token = communication(gpu, model, split, calibration)
                for batch in self.batches:
                    for prompt in self.prompt_tokens:
                        pairs = 0.5 * prompt * prompt
                        step_s = resolve_step(
                            c, batch, batch * self.context_tokens, prompt, pairs, 1e9, 1.0
                        )[0]
                        linked_s = per_step + per_token * (batch + prompt)
                        rows.append(
                            {
                                "model": name, "tensor_parallel": tensor, "batch": batch,
                                "prompt_tokens": prompt, "step_s": step_s,
                                "communication_s": linked_s,
                                "communication_share": linked_s / step_s,
                            }
                        )  # fmt: skip
        data = pd.DataFrame(rows)
        return Made(data, lambda file: self._draw(data, file))

    def _draw(self, data: pd.DataFrame, file: Path) -> None:
        shown = data[data["prompt_tokens"] == self.prompt_tokens[0]]
        with picture(
            file, 1, len(self.models), (3.2 * len(self.models), 3.0), squeeze=False, formats=FORMATS
        ) as (_, grid):
            for axis, name in zip(grid[0], self.models, strict=True):
                own = shown[shown["model"] == name].reset_index(drop=True)
                labels = [
                    f"TP{t}\nb{b}"
                    for t, b in zip(own["tensor_parallel"], own["batch"], strict=True)
                ]
                rest = 1e3 * (own["step_s"] - own["communication_s"])
                axis.bar(labels, rest, color=BLUE, label="computing, memory, overhead")
                axis.bar(
                    labels, 1e3 * own["communication_s"], bottom=rest, color=ORANGE,
                    label="communicating",
                )  # fmt: skip
                for index, share in enumerate(own["communication_share"]):
                    axis.text(
                        index, 1e3 * own["step_s"][index], f"{100 * share:.0f} %", ha="center",
                        va="bottom", fontsize=7.5,
                    )  # fmt: skip
                axis.set_title(NAMES[name])
                axis.set_ylabel("ms a step")
                axis.grid(visible=False, axis="x")
            grid[0][0].legend(loc="upper left", fontsize=7.5)
