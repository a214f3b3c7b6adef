"""Runs the strategies on single servers and compares them with Baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from envs.fields import Checked
from envs.quantities import Batch, Load
from experiments.evaluation.statistics import FloatArray
from experiments.evaluation.suites import SuiteScenario
from experiments.figures.base import Row
from experiments.figures.claims import interval_of
from experiments.figures.context import FigureContext
from experiments.figures.episodes import Summaries, run_scenarios

BASELINE = "static"
"""The paper's Baseline: the highest cap, batch 64."""
EFFICIENCY = {"gpu": "tokens_per_joule", "system": "tokens_per_joule_system"}
"""Metric of efficiency by whose energy counts."""
_VARIANT_CONTROLLERS = ("adaptive_batch", "pals", "oracle")
_BATCHES = (1, 4, 8, 16, 32, 64, 128, 256)
_METRICS = (
    "qos_violation_rate",
    "qos_violation_rate_plain",
    "ttft_p99_s",
    "tpot_p99_s",
    "power_mean_w",
    "cap_binding_fraction",
)


@dataclass(kw_only=True)
class Variant(Checked):
    """Another choice under which the claims are evaluated.

    Attributes:
        models: Models; none for those of the figure.
        workload: Name of the workload.
        load: Load as a fraction of Baseline's saturated rate.
        target: Target as a fraction of the capacity; ``None``: what is offered.
        largest_batch: Highest batch limit of server and grid; Baseline stays at 64.
    """

    models: list[str] = field(default_factory=list)
    workload: str = "poisson_gsm8k"
    load: Load = 0.7
    target: Load | None = None
    largest_batch: Batch = 64


@dataclass(frozen=True)
class StrategyRuns:
    """Metrics of every episode by scenario and controller.

    Attributes:
        summaries: The metrics, one summary per seed.
    """

    summaries: Summaries

    def relative(self, name: str, scope: str = "gpu") -> FloatArray:
        """Returns a controller's tokens/J over Baseline's, shape ``(seeds, scenarios)``."""
        key = EFFICIENCY[scope]
        columns = [
            [own[key] / base[key] for own, base in zip(runs[name], runs[BASELINE], strict=True)]
            for runs in self.summaries.values()
        ]
        return np.array(columns).T

    def violations(self, name: str) -> FloatArray:
        """Returns a controller's rates of QoS violations, shape ``(seeds, scenarios)``."""
        columns = [
            [summary["qos_violation_rate"] or 0.0 for summary in runs[name]]
            for runs in self.summaries.values()
        ]
        return np.array(columns).T


@dataclass(frozen=True)
class Strategies:
    """The scenarios of the figure.

    Attributes:
        gpus: GPU types.
        models: Models.
        tensor: Tensor-parallel size.
        workload: Name of the workload.
        load: Load as a fraction of Baseline's saturated rate.
        seeds: Episodes per scenario.
        duration_s: Length of an episode in seconds.
    """

    gpus: Sequence[str]
    models: Sequence[str]
    tensor: int
    workload: str
    load: float
    seeds: int
    duration_s: float

    def run(self, context: FigureContext, names: Sequence[str]) -> StrategyRuns:
        """Runs controllers on every GPU type and model."""
        scenarios = {
            self._name(gpu, model): self._scenario(gpu, model)
            for gpu in self.gpus
            for model in self.models
        }
        controllers = {name: name for name in names}
        return StrategyRuns(self._run(context, "strategies", scenarios, controllers))

    def run_variants(
        self, context: FigureContext, variants: Mapping[str, Variant]
    ) -> dict[str, StrategyRuns]:
        """Runs the paper's strategies in each variant, on the first GPU type."""
        controllers: dict[str, Any] = {
            BASELINE: {"base": BASELINE, "max_num_seqs": 64},
            **{name: name for name in _VARIANT_CONTROLLERS},
        }
        outcomes = {}
        for name, variant in variants.items():
            scenarios = {
                f"{name}-{model}": self._variant_scenario(variant, model)
                for model in variant.models or self.models
            }
            batches = [str(batch) for batch in _BATCHES if batch <= variant.largest_batch]
            override = f"action.max_num_seqs=[{','.join(batches)}]"
            stage = f"variant {name}"
            outcomes[name] = StrategyRuns(
                self._run(context, stage, scenarios, controllers, override)
            )
        return outcomes

    def of_gpu(self, outcomes: StrategyRuns, gpu: str) -> StrategyRuns:
        """Returns the outcomes on one GPU type."""
        names = [self._name(gpu, model) for model in self.models]
        return StrategyRuns({name: outcomes.summaries[name] for name in names})

    def rows(self, outcomes: StrategyRuns, names: Sequence[str]) -> list[Row]:
        """Returns efficiency and mean metrics by GPU type, model and controller."""
        rows: list[Row] = []
        for gpu in self.gpus:
            for model in self.models:
                scenario = self._name(gpu, model)
                own = StrategyRuns({scenario: outcomes.summaries[scenario]})
                rows += [{"gpu": gpu, "model": model, **_row(own, name)} for name in names]
        return rows

    def _run(
        self,
        context: FigureContext,
        stage: str,
        scenarios: Mapping[str, SuiteScenario],
        controllers: Mapping[str, Any],
        *overrides: str,
    ) -> Summaries:
        return run_scenarios(
            context,
            stage,
            scenarios,
            controllers,
            seeds=self.seeds,
            duration_s=self.duration_s,
            overrides=overrides,
        )

    def _name(self, gpu: str, model: str) -> str:
        return f"{gpu}-{model}-tp{self.tensor}-{self.workload}-{self.load:g}"

    def _scenario(self, gpu: str, model: str) -> SuiteScenario:
        return SuiteScenario(
            model=model,
            gpu=gpu,
            server={"base": "simulated", "tensor_parallel": self.tensor},
            workload={"base": self.workload, "load": self.load},
        )

    def _variant_scenario(self, variant: Variant, model: str) -> SuiteScenario:
        server: dict[str, Any] = {
            "base": "simulated",
            "tensor_parallel": self.tensor,
            "max_num_seqs": variant.largest_batch,
        }
        objective: Any = "throughput_target"
        if variant.target is not None:
            objective = {
                "base": "throughput_target",
                "target_unit": "capacity",
                "target": {"value": variant.target},
            }
        return SuiteScenario(
            model=model,
            gpu=self.gpus[0],
            server=server,
            objective=objective,
            workload={"base": variant.workload, "load": variant.load},
        )


def _row(outcomes: StrategyRuns, name: str) -> Row:
    """Returns a controller's metrics in one scenario."""
    (runs,) = outcomes.summaries.values()
    row: Row = {"controller": name}
    for scope in EFFICIENCY:
        own = interval_of(outcomes.relative(name, scope)[:, 0])
        row[f"relative_{scope}"] = own.value
        row[f"relative_{scope}_low"] = own.low
        row[f"relative_{scope}_high"] = own.high
    for key in _METRICS:
        row[key] = float(np.mean([summary[key] or 0.0 for summary in runs[name]]))
    return row
