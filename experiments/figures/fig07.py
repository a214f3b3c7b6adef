"""Figure 7: tokens per joule of the strategies, normalised to Baseline, over the models."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.figures.base import FORMATS, Made, PaperFigure
from experiments.figures.claims import Claim
from experiments.figures.study import Study
from experiments.statistics import bootstrap
from experiments.style import BLUE, GREY, RED, picture
from experiments.suites import SuiteSetting

_PAPER = {"adaptive_batch": 1.14, "pals": 1.263, "oracle": 1.263 / 0.95}


@dataclass(kw_only=True)
class Strategies(PaperFigure):
    """Figure 7.

    Attributes:
        models: Models to average over.
        loads: Arrival rates as shares of capacity, the default one first; the paper gives none.
        controllers: Controllers by name; ``static`` is the unit.
        gpu: GPU type.
        tensor_parallel: Tensor-parallel size.
        judged: Whether the paper's claims are judged (on its own GPU type).
        title: What it shows.
    """

    models: list[str] = field(default_factory=list)
    loads: list[float] = field(default_factory=lambda: [0.7])
    controllers: list[str] = field(default_factory=list)
    gpu: str = "a100_sxm4_80gb"
    tensor_parallel: int = 4
    judged: bool = True
    title: str = "Tokens per joule of the strategies, normalised to Baseline"

    def make(self, study: Study) -> Made:
        """See :meth:`PaperFigure.make`."""
        frames = []
        for model in self.models:
            for load in self.loads:
                setting = SuiteSetting(
                    model=model,
                    gpu=self.gpu,
                    server={"base": "simulated", "tensor_parallel": self.tensor_parallel},
                    workload={"base": "poisson_gsm8k", "load": load},
                )
                name = f"{model}_{self.gpu}_load{round(100 * load)}"
                runs = study.episodes(name, setting, self.controllers)
                base = runs[runs["controller"] == "static"].set_index("seed")
                for key in ("tokens_per_joule", "tokens_per_joule_system"):
                    runs[f"{key}_relative"] = runs[key] / runs["seed"].map(base[key])
                frames.append(runs.assign(model=model, load=load))
        data = pd.concat(frames, ignore_index=True)
        kept = [
            "model", "load", "controller", "seed", "tokens_per_joule_relative",
            "tokens_per_joule_system_relative", "qos_violation_rate", "qos_violation_rate_plain",
            "ttft_p99_s", "tpot_p99_s", "cap_binding_fraction", "power_mean_w",
        ]  # fmt: skip
        data = data[kept]
        claims = self._claims(data) if self.judged else []
        return Made(data, lambda file: self._draw(data, file), claims)

    def _claims(self, data: pd.DataFrame) -> list[Claim]:
        setting = (
            f"{len(self.models)} models, TP{self.tensor_parallel} on 4 x A100, Poisson GSM8K at "
            f"load {self.loads[0]}; range over loads {self.loads} and GPUs' or node's energy"
        )

        def over(name: str) -> list[float]:
            return [
                _average(data, name, load, key)[0]
                for load in self.loads
                for key in ("tokens_per_joule_relative", "tokens_per_joule_system_relative")
            ]

        batch, pals, oracle = over("adaptive_batch"), over("pals"), over("oracle")
        shares = [(p - 1.0) / (o - 1.0) for p, o in zip(pals, oracle, strict=True) if o > 1.0]
        lost = 100.0 * _average(data, "pals", self.loads[0], "qos_violation_rate")[0]
        return [
            Claim(
                "fig07_batch", "7", "tokens/J of choosing the batch alone, over Baseline",
                (1.14, 1.14), batch[0], min(batch), max(batch), setting,
                "at one cap the largest batch gives the most tokens/J, and Baseline has it "
                "already (figure 1b says so, too); a gain needs a cost of large batches that "
                "figure 1b does not show. The paper would have to say which batches were chosen",
                neutral=1.0,
            ),
            Claim(
                "fig07_pals", "7", "tokens/J of PALS over Baseline",
                (1.263, 1.263), pals[0], min(pals), max(pals), setting,
                f"at {lost:.1f} % of time in reference-relative violation; it depends on the "
                "load, which the paper does not give",
                neutral=1.0,
            ),
            Claim(
                "fig07_share", "7", "share of the oracle's headroom that PALS reaches",
                (0.95, 0.95), shares[0], min(shares), max(shares), setting,
                "the oracle is the best static setting within 5 % violations; a controller that "
                "moves can pass it, and one that violates more can, too",
                neutral=0.0,
            ),
        ]  # fmt: skip

    def _draw(self, data: pd.DataFrame, file: Path) -> None:
        load = self.loads[0]
        rows = len(self.controllers)
        with picture(file, 1, 2, (8.6, 0.9 + 0.42 * rows), sharey=True, formats=FORMATS) as (
            _,
            axes,
        ):
            for row, name in enumerate(self.controllers):
                value, low, high = _average(data, name, load, "tokens_per_joule_relative")
                axes[0].barh(row, value, color=BLUE, height=0.6)
                axes[0].plot([low, high], [row, row], color="black", lw=1.4)
                for model in self.models:
                    part = _cell(data, name, load, model)
                    axes[0].plot(
                        [part["tokens_per_joule_relative"].mean()], [row], ".", color=GREY, ms=5
                    )
                if name in _PAPER and self.judged:
                    axes[0].plot([_PAPER[name]] * 2, [row - 0.4, row + 0.4], color=RED, lw=2)
                value, low, high = _average(data, name, load, "qos_violation_rate")
                axes[1].barh(row, 100 * value, color=BLUE, height=0.6)
                axes[1].plot([100 * low, 100 * high], [row, row], color="black", lw=1.4)
            axes[0].set_yticks(range(rows), self.controllers)
            axes[0].invert_yaxis()
            axes[0].axvline(1.0, color=GREY, lw=0.8)
            axes[0].set_xlim(left=0.8)
            axes[0].set_xlabel("Tokens/J over Baseline (dots: models; red: paper)")
            axes[1].set_xlabel("QoS violations against Baseline, % of time")
            for axis in axes:
                axis.grid(visible=False, axis="y")


def _cell(data: pd.DataFrame, controller: str, load: float, model: str) -> pd.DataFrame:
    chosen = (data["controller"] == controller) & (data["load"] == load)
    return data[chosen & (data["model"] == model)]


def _average(
    data: pd.DataFrame, controller: str, load: float, key: str
) -> tuple[float, float, float]:
    """Returns the mean over models and its stratified-bootstrap interval over seeds."""
    part = data[(data["controller"] == controller) & (data["load"] == load)]
    table = part.pivot(index="seed", columns="model", values=key).to_numpy(dtype=float)
    found = bootstrap(table, lambda scores: np.asarray(scores.mean(axis=(-2, -1))))
    return found.value, found.low, found.high
