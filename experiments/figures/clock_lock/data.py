"""Episodes with knobs that are held throughout, over the load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from baselines.fixed_knobs import FixedKnobs
from envs import factory
from envs.knobs import Knobs
from envs.serving import ServingEnv
from experiments.evaluation.batched_rollout import Assignment, EpisodeMetrics, Episodes
from experiments.evaluation.statistics import Interval
from experiments.figures.base import Row
from experiments.figures.claims import interval_of
from experiments.figures.context import FIRST_SEED, FigureContext

FREE = "free (Baseline)"
RELATIVE = "relative"
"""Tokens per joule over those of free knobs."""
_BATCH = 64
_METRICS = (
    RELATIVE,
    "cap_binding_fraction",
    "qos_violation_rate",
    "ttft_p99_s",
    "tpot_p99_s",
    "power_mean_w",
)


@dataclass(frozen=True)
class LoadSweep:
    """The scenarios of the figure.

    Attributes:
        gpu: GPU type.
        model: Model.
        tensor: Tensor-parallel size.
        workload: Name of the workload.
        loads: Loads as a fraction of Baseline's saturated rate.
        seeds: Episodes per load.
        duration_s: Length of an episode in seconds.
    """

    gpu: str
    model: str
    tensor: int
    workload: str
    loads: Sequence[float]
    seeds: int
    duration_s: float

    def run(
        self, context: FigureContext, caps_w: Sequence[float], clocks_mhz: Sequence[float]
    ) -> dict[str, dict[str, list[EpisodeMetrics]]]:
        """Returns the metrics by name of the knobs and by load, one entry per seed."""
        highest_w = max(caps_w)
        knobs = {
            FREE: Knobs(highest_w, _BATCH, None),
            **{f"cap {cap:g} W": Knobs(cap, _BATCH, None) for cap in caps_w if cap < highest_w},
            **{f"clock {mhz:g} MHz": Knobs(highest_w, _BATCH, mhz) for mhz in clocks_mhz},
        }
        envs = {f"{load:g}": self._env(load) for load in self.loads}
        episodes = Episodes(envs, range(FIRST_SEED, FIRST_SEED + self.seeds), self.duration_s)
        summaries: dict[str, dict[str, list[EpisodeMetrics]]] = {}
        for done, (name, held_knobs) in enumerate(knobs.items(), start=1):
            assignments = []
            for load, env in episodes.envs.items():
                held = FixedKnobs.per_server([held_knobs] * self.seeds)
                held.bind(env.context)
                assignments.append(Assignment(held, episodes.members[load]))
            summaries[name] = episodes.run(assignments)
            context.report("caps and clocks", done, len(knobs))
        return summaries

    def _env(self, load: float) -> ServingEnv:
        return factory.make_simulated(
            model=self.model,
            gpu=self.gpu,
            server={"base": "simulated", "tensor_parallel": self.tensor},
            workload={"base": self.workload, "load": load},
            action={"base": "continuous", "sm_clock": True},
            duration_s=self.duration_s,
        )


@dataclass(frozen=True)
class HeldKnobRuns:
    """Metrics of the episodes.

    Attributes:
        loads: Loads as a fraction of Baseline's saturated rate.
        episodes: Metrics by name of the knobs and by load, one entry per seed.
    """

    loads: Sequence[float]
    episodes: Mapping[str, Mapping[str, Sequence[EpisodeMetrics]]]

    def metric(self, name: str, load: float, key: str) -> Interval:
        """Returns a metric of some knobs at a load, with its interval over the seeds."""
        own, base = self.episodes[name][f"{load:g}"], self.episodes[FREE][f"{load:g}"]
        if key == RELATIVE:
            pairs = zip(own, base, strict=True)
            return interval_of([a.efficiency_over(b) for a, b in pairs])
        return interval_of([metrics.to_dict()[key] or 0.0 for metrics in own])

    def rows(self) -> list[Row]:
        """Returns all metrics by knobs and load."""
        rows: list[Row] = []
        for name in self.episodes:
            for load in self.loads:
                row: Row = {"knobs": name, "load": load}
                for key in _METRICS:
                    value = self.metric(name, load, key)
                    row |= {key: value.value, f"{key}_low": value.low, f"{key}_high": value.high}
                rows.append(row)
        return rows
