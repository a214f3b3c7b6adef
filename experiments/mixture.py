"""The mixture of settings that an agent is trained on, drawn at random and evenly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from envs import factory
from envs.errors import ConfigurationError
from experiments.suites import SuiteSetting, built

_T = TypeVar("_T")


@dataclass(kw_only=True)
class MixtureServer:
    """A server of a mixture; each part is a name, or a mapping with ``base`` and changes.

    Attributes:
        model: Model that is served.
        gpu: GPU type.
        server: Parallelism and limits.
    """

    model: Any = factory.MODEL
    gpu: Any = factory.GPU
    server: Any = factory.SERVER


@dataclass(kw_only=True)
class Mixture:
    """Servers, workloads and objectives that are combined at random.

    Each list is dealt like a deck of cards, so that its entries appear equally often; loads
    and lengths are drawn. An objective with a ``tpot_slo_s`` gets one that suits the server:
    a multiple of the Baseline strategy's time per output token at saturation.

    Attributes:
        servers: Servers.
        workloads: Workloads; their load is drawn.
        objectives: Objectives.
        load: Lowest and highest load.
        prompt_scale: Smallest and largest factor on prompt lengths (log-uniform).
        output_scale: Smallest and largest factor on output lengths (log-uniform).
        tpot_slo: Smallest and largest multiple for a TPOT SLO.
        domain_randomization: Draws the calibration anew for every episode.
        also: Settings that are added as they are, for what random combination rarely meets.
        also_share: Share of the servers that :attr:`also` gets.
    """

    servers: list[MixtureServer] = field(default_factory=lambda: [MixtureServer()])
    workloads: list[Any] = field(default_factory=lambda: [factory.WORKLOAD])
    objectives: list[Any] = field(default_factory=lambda: [factory.OBJECTIVE])
    load: list[float] = field(default_factory=lambda: [0.3, 1.1])
    prompt_scale: list[float] = field(default_factory=lambda: [1.0, 1.0])
    output_scale: list[float] = field(default_factory=lambda: [1.0, 1.0])
    tpot_slo: list[float] = field(default_factory=lambda: [0.6, 1.2])
    domain_randomization: bool = True
    also: list[SuiteSetting] = field(default_factory=list)
    also_share: float = 0.0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: A list is empty, or a range is not two positive numbers.
        """
        for key in ("servers", "workloads", "objectives"):
            if not getattr(self, key):
                raise ConfigurationError(f"mixture.{key}: needs at least one entry")
        for key in ("load", "prompt_scale", "output_scale", "tpot_slo"):
            value = list(getattr(self, key))
            if len(value) != 2 or not 0 < value[0] <= value[1]:
                raise ConfigurationError(
                    f"mixture.{key}: needs two positive numbers in order, got {value}"
                )
        if not 0 <= self.also_share <= 1 or (self.also_share > 0 and not self.also):
            raise ConfigurationError(
                "mixture.also_share: must be in [0, 1], and 0 when mixture.also is empty, "
                f"got {self.also_share}"
            )

    def draw(self, count: int, rng: np.random.Generator) -> list[SuiteSetting]:
        """Draws settings.

        Args:
            count: How many.
            rng: Source of every draw.
        """
        cards: tuple[Sequence[Any], ...] = (self.servers, self.workloads, self.objectives)
        decks = [_dealt(one, rng) for one in cards]
        fixed = round(self.also_share * count)
        drawn = []
        for _ in range(count - fixed):
            server, workload, objective = (next(deck) for deck in decks)
            drawn.append(self._setting(server, workload, objective, rng))
        extra = _dealt(self.also, rng) if fixed else iter(())
        return drawn + [next(extra) for _ in range(fixed)]

    def _setting(
        self, server: MixtureServer, workload: Any, objective: Any, rng: np.random.Generator
    ) -> SuiteSetting:
        lengths = {
            key: _log_uniform(getattr(self, key), rng) for key in ("prompt_scale", "output_scale")
        }
        load = float(rng.uniform(self.load[0], self.load[1]))
        slo = float(rng.uniform(self.tpot_slo[0], self.tpot_slo[1]))
        asked = built("objective", objective)
        setting = SuiteSetting(
            model=server.model,
            gpu=server.gpu,
            server=server.server,
            workload=replace(built("workload", workload), load=load, **lengths),
            objective=asked,
        )
        if asked.tpot_slo_s is not None:
            setting.objective = replace(asked, tpot_slo_s=slo * saturated_tpot_s(setting))
        return setting


def saturated_tpot_s(setting: SuiteSetting) -> float:
    """Returns the Baseline strategy's mean time per output token with a full batch."""
    parts = {key: part for key, part in setting.built.items() if key != "objective"}
    plant = factory.build_plant(**parts)
    places = plant.server.max_num_seqs * plant.server.data_parallel
    return places / plant.saturated.output_tok_s


def _log_uniform(bounds: Sequence[float], rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))


def _dealt(cards: Sequence[_T], rng: np.random.Generator) -> Iterator[_T]:
    """Yields cards for ever: all of them in random order, then all of them again."""
    while True:
        for index in rng.permutation(len(cards)):
            yield cards[index]


def calibrations(settings: Sequence[SuiteSetting]) -> list[str]:
    """Returns the names of the calibrations that the settings' GPUs use, sorted."""
    return sorted({built("gpu", setting.gpu).calibration for setting in settings})
