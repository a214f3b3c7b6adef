"""Beyond the paper: a power cap against a locked clock, over the load."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baselines.fixed_knobs import FixedKnobs
from envs import factory
from envs.knobs import Knobs
from experiments.evaluation.batched_rollout import Assignment, EpisodeMetrics, Episodes
from experiments.evaluation.statistics import Interval
from experiments.figures.base import Figure, Result, Row
from experiments.figures.claims import interval_of
from experiments.figures.context import FIRST_SEED, Workshop
from experiments.figures.plot_marks import FORMATS, gpu_label, line, model_label, stem
from experiments.reporting.plot_style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    log_scale,
    saved_plot,
)

_PANELS = (
    ("cap_binding_fraction", "Time the cap binds, %", 100.0),
    ("relative", "Tokens per joule, Baseline = 1", 1.0),
    ("ttft_p99_s", "TTFT p99, s", 1.0),
)


@dataclass(kw_only=True)
class ClockLockFigure(Figure):
    """A cap and a locked clock, each held throughout, over the load.

    Attributes:
        gpu: GPU type.
        model: Model.
        tensor: Tensor-parallel size.
        workload: Name of the workload.
        loads: Loads as a fraction of Baseline's saturated rate.
        caps_w: Power caps.
        clocks_mhz: SM clocks, at the highest cap.
        seeds: Episodes per load.
        duration_s: Length of an episode in seconds.
    """

    gpu: str = "a100_sxm4_80gb"
    model: str = "mixtral_8x7b"
    tensor: int = 4
    workload: str = "poisson_gsm8k"
    loads: list[float] = field(default_factory=list)
    caps_w: list[float] = field(default_factory=list)
    clocks_mhz: list[float] = field(default_factory=list)
    seeds: int = 8
    duration_s: float = 600.0

    def make(self, workshop: Workshop) -> Result:
        """See :meth:`Figure.make`."""
        spec_max = max(self.caps_w)
        knobs = {
            "free (Baseline)": Knobs(spec_max, 64, None),
            **{f"cap {cap:g} W": Knobs(cap, 64, None) for cap in self.caps_w if cap < spec_max},
            **{f"clock {mhz:g} MHz": Knobs(spec_max, 64, mhz) for mhz in self.clocks_mhz},
        }
        envs = {f"{load:g}": self._env(load) for load in self.loads}
        episodes = Episodes(envs, range(FIRST_SEED, FIRST_SEED + self.seeds), self.duration_s)
        found: dict[str, dict[str, list[EpisodeMetrics]]] = {}
        for done, (name, setting) in enumerate(knobs.items(), start=1):
            assignments = []
            for load, env in episodes.envs.items():
                held = FixedKnobs.per_server([setting] * self.seeds)
                held.bind(env.context)
                assignments.append(Assignment(held, episodes.members[load]))
            found[name] = episodes.run(assignments)
            workshop.tell("caps and clocks", done, len(knobs))
        return Result(
            title="A power cap against a locked clock",
            caption=(
                f"{model_label(self.model)} on 4 {gpu_label(self.gpu)}, `{self.workload}`, "
                "batch 64; each cap (at a free clock) and each clock (at the highest cap) held "
                "throughout. A "
                "cap does nothing while the load leaves the draw below it; a locked clock acts "
                "at every load and delays requests even when the server is nearly idle. Bands: "
                f"95 % intervals over {self.seeds} seeds of {self.duration_s:g} s."
            ),
            rows=self._rows(found),
            draw=lambda file: self._draw(found, file),
        )

    def _env(self, load: float) -> Any:
        return factory.make_simulated(
            model=self.model, gpu=self.gpu,
            server={"base": "simulated", "tensor_parallel": self.tensor},
            workload={"base": self.workload, "load": load},
            action={"base": "continuous", "sm_clock": True},
            duration_s=self.duration_s,
        )  # fmt: skip

    def _figure(
        self, found: dict[str, dict[str, list[EpisodeMetrics]]], name: str, load: float, key: str
    ) -> Interval:
        own, base = found[name][f"{load:g}"], found["free (Baseline)"][f"{load:g}"]
        if key == "relative":
            return interval_of([
                a.efficiency_over(b)
                for a, b in zip(own, base, strict=True)
            ])  # fmt: skip
        return interval_of([metrics.to_dict()[key] or 0.0 for metrics in own])

    def _rows(self, found: dict[str, dict[str, list[EpisodeMetrics]]]) -> list[Row]:
        rows: list[Row] = []
        for name in found:
            for load in self.loads:
                row: Row = {"setting": name, "load": load}
                for key in ("relative", "cap_binding_fraction", "qos_violation_rate",
                            "ttft_p99_s", "tpot_p99_s", "power_mean_w"):  # fmt: skip
                    value = self._figure(found, name, load, key)
                    row |= {key: value.value, f"{key}_low": value.low, f"{key}_high": value.high}
                rows.append(row)
        return rows

    def _draw(self, found: dict[str, dict[str, list[EpisodeMetrics]]], file: Path) -> None:
        shades = {"cap": iter((BLUE, SKY, GREEN)), "clock": iter((RED, ORANGE, PURPLE))}
        with saved_plot(stem(file), 1, 3, (12.0, 4.1), formats=FORMATS) as (figure, axes):
            for name in found:
                kind = name.split()[0]
                color = next(shades[kind], BLACK) if kind in shades else BLACK
                style = {"cap": "-", "clock": "--"}.get(kind, ":")
                for axis, (key, title, factor) in zip(axes, _PANELS, strict=True):
                    own = [self._figure(found, name, load, key) for load in self.loads]
                    scaled = [Interval(*(factor * part for part in value)) for value in own]
                    line(axis, [100 * load for load in self.loads], scaled, self.model,
                         color=color, ls=style, label=name)  # fmt: skip
                    axis.set_title(title)
                    axis.set_xlabel("Load, % of Baseline's saturated rate")
            log_scale(axes[2].yaxis)
            handles, labels = axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=4)
