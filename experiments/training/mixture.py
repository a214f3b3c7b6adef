"""The mixture of scenarios that an agent is trained on, drawn at random and evenly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import numpy as np

from envs.factory import build_server_spec
from envs.fields import Checked
from envs.quantities import Factor, Load, Positive
from envs.scenario import Scenario
from experiments.evaluation.suites import SuiteScenario, built

_T = TypeVar("_T")
_RANGE = "be two positive numbers in order"


@dataclass(kw_only=True)
class MixtureServer:
    """A server of a mixture; each part is a name, or a mapping with ``base`` and changes.

    Attributes:
        model: Model that is served.
        gpu: GPU type.
        server: Parallelism and limits.
    """

    model: Any = Scenario.model
    gpu: Any = Scenario.gpu
    server: Any = Scenario.server


@dataclass(kw_only=True)
class MixtureScenario(Checked):
    """Workloads and objectives that go together.

    Attributes:
        weight: Number of servers that it gets, relative to the others'.
        servers: Its own servers; none for those of the mixture.
        workloads: Workloads; their load is drawn.
        objectives: Objectives. One with a ``tpot_slo_s`` gets an SLO that suits the server: a
            multiple of the Baseline strategy's time per output token with a full batch.
        load: Lowest and highest load.
        tpot_slo: Smallest and largest multiple for a TPOT SLO.
    """

    config_key: ClassVar[str] = "mixture.scenarios"

    weight: Positive = 1.0
    servers: list[MixtureServer] = field(default_factory=list)
    workloads: list[Any] = field(default_factory=lambda: [Scenario.workload])
    objectives: list[Any] = field(default_factory=lambda: [Scenario.objective])
    load: list[Load] = field(default_factory=lambda: [0.3, 1.1])
    tpot_slo: list[Factor] = field(default_factory=lambda: [0.6, 1.2])

    def __post_init__(self) -> None:
        """Checks that the lists hold what they need.

        Raises:
            ConfigurationError: A list is empty, or a range is not two numbers in order.
        """
        super().__post_init__()
        for key in ("workloads", "objectives"):
            self.require(len(getattr(self, key)) > 0, key, "have at least one entry")
        for key in ("load", "tpot_slo"):
            self.require(_is_range(getattr(self, key)), key, _RANGE)


@dataclass(kw_only=True)
class Mixture(Checked):
    """Servers and scenarios that are combined at random.

    Each list is dealt like a deck of cards, so that its entries appear equally often; loads
    and lengths are drawn.

    Attributes:
        servers: Servers.
        scenarios: Families of scenarios by name.
        prompt_scale: Smallest and largest factor on prompt lengths (log-uniform).
        output_scale: Smallest and largest factor on output lengths (log-uniform).
        domain_randomization: Draws the calibration again for every episode.
    """

    config_key: ClassVar[str] = "mixture"

    servers: list[MixtureServer] = field(default_factory=lambda: [MixtureServer()])
    scenarios: dict[str, MixtureScenario] = field(default_factory=dict)
    prompt_scale: list[Factor] = field(default_factory=lambda: [1.0, 1.0])
    output_scale: list[Factor] = field(default_factory=lambda: [1.0, 1.0])
    domain_randomization: bool = True

    def __post_init__(self) -> None:
        """Checks that the lists hold what they need.

        Raises:
            ConfigurationError: There is no server or scenario, or a range is not two numbers in
                order.
        """
        super().__post_init__()
        for key in ("servers", "scenarios"):
            self.require(len(getattr(self, key)) > 0, key, "have at least one entry")
        for key in ("prompt_scale", "output_scale"):
            self.require(_is_range(getattr(self, key)), key, _RANGE)

    def draw(self, count: int, rng: np.random.Generator) -> list[SuiteScenario]:
        """Draws scenarios; every entry of :attr:`scenarios` gets its fraction of them, rounded.

        Args:
            count: How many.
            rng: Source of every draw.
        """
        weights = np.array([scenario.weight for scenario in self.scenarios.values()])
        ends = np.rint(np.cumsum(weights) / weights.sum() * count).astype(int).tolist()
        drawn: list[SuiteScenario] = []
        for name, end in zip(self.scenarios, ends, strict=True):
            drawn += self._family(name, end - len(drawn), rng)
        return drawn

    def _family(self, name: str, count: int, rng: np.random.Generator) -> list[SuiteScenario]:
        family = self.scenarios[name]
        servers = _dealt(family.servers or self.servers, rng)
        workloads = _dealt(family.workloads, rng)
        objectives = _dealt(family.objectives, rng)
        drawn = []
        for _ in range(count):
            server = next(servers)
            workload = replace(
                built("workload", next(workloads)),
                load=float(rng.uniform(family.load[0], family.load[1])),
                prompt_scale=_log_uniform(self.prompt_scale, rng),
                output_scale=_log_uniform(self.output_scale, rng),
            )
            scenario = SuiteScenario(
                model=server.model,
                gpu=server.gpu,
                server=server.server,
                workload=workload,
                objective=built("objective", next(objectives)),
                family=name,
            )
            multiple = float(rng.uniform(family.tpot_slo[0], family.tpot_slo[1]))
            if scenario.objective.tpot_slo_s is not None:
                slo_s = multiple * saturated_tpot_s(scenario)
                scenario.objective = replace(scenario.objective, tpot_slo_s=slo_s)
            drawn.append(scenario)
        return drawn


def saturated_tpot_s(scenario: SuiteScenario) -> float:
    """Returns the Baseline strategy's mean time per output token with a full batch."""
    parts = {key: part for key, part in scenario.built.items() if key != "objective"}
    server_spec = build_server_spec(Scenario(**parts))
    places = server_spec.server.max_num_seqs * server_spec.server.data_parallel
    return places / server_spec.saturated.output_tok_s


def calibrations(scenarios: Sequence[SuiteScenario]) -> list[str]:
    """Returns the names of the calibrations that the scenarios' GPUs use, sorted."""
    return sorted({built("gpu", scenario.gpu).calibration for scenario in scenarios})


def _is_range(bounds: Sequence[float]) -> bool:
    return len(bounds) == 2 and bounds[0] <= bounds[1]


def _log_uniform(bounds: Sequence[float], rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))


def _dealt(cards: Sequence[_T], rng: np.random.Generator) -> Iterator[_T]:
    """Yields cards for ever: all of them in random order, then all of them again."""
    while True:
        for index in rng.permutation(len(cards)):
            yield cards[index]
