"""Twins that are wrong: what the operator believes of a server, and what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np

from envs import catalog
from envs.errors import ConfigurationError
from envs.fields import OneOf
from envs.quantities import Seed
from envs.scenario import Scenario, described
from envs.simulator.calibration import Calibration, randomize
from experiments.evaluation.metric_table import (
    CHANGES_PER_MINUTE,
    METRICS,
    TOKENS_PER_JOULE_RELATIVE,
    WITHIN_BUDGET,
)
from experiments.planning.parts import AnyScenario, Parts
from experiments.planning.study import DECISION_TIMES, Entry, Row, StudyConfig, metric_texts
from experiments.reporting.markdown import markdown_table

RIGHT, DRAWN, OTHER_GPU, LONGER, SHORTER, CACHE, BURSTS = (
    "right", "coefficients drawn", "another GPU's calibration", "lengths 2x", "lengths 0.5x",
    "a prefix cache", "bursts",
)  # fmt: skip
_NOT_OF_ARRIVALS = (
    "lengths", "load", "rate", "path", "prompt_scale", "output_scale", "turns", "sessions",
    "max_history_tokens",
)  # fmt: skip
ERRORS = (RIGHT, DRAWN, OTHER_GPU, LONGER, SHORTER, CACHE, BURSTS)


@dataclass(kw_only=True)
class TwinErrorsConfig(StudyConfig):
    """What the study of wrong twins is made of (``conf/twin_errors.yaml``).

    Attributes:
        errors: What is wrong: ``right`` (nothing), ``coefficients drawn`` (the calibration is a
            draw within its uncertainty), ``another GPU's calibration``, ``lengths 2x`` and
            ``lengths 0.5x`` (requests are that much longer than believed), ``a prefix cache`` (the
            server has one, and it is believed to have none), ``bursts`` (requests come in short,
            strong ones, and are believed to come at a steady rate).
        draws: Seeds of the drawn calibrations.
        controllers: Controllers that work with a model, ``mpc`` and such as need a profile, and
            others beside them.
        uncorrected: Whether ``mpc`` runs without online correction, too.
    """

    errors: list[Annotated[str, OneOf(*ERRORS)]] = field(default_factory=lambda: list(ERRORS))
    draws: list[Seed] = field(default_factory=lambda: [0])
    controllers: list[str] = field(default_factory=lambda: ["mpc", "pals"])
    uncorrected: bool = True


@dataclass(frozen=True)
class Drawn:
    """A calibration within its uncertainty."""

    seed: int

    def __call__(self, scenario: Scenario) -> Scenario:
        """Returns what is believed."""
        rng = np.random.default_rng(self.seed)
        return replace(scenario, calibration=randomize(_calibration(scenario), rng))


@dataclass(frozen=True)
class OtherGpu:
    """The calibration of another GPU type."""

    def __call__(self, scenario: Scenario) -> Scenario:
        """Returns what is believed."""
        own = _calibration(scenario).name
        names = [name for name in catalog.names("calibration") if name != own]
        other = "h100_sxm" if "h100_sxm" in names else names[0]
        return replace(scenario, calibration=catalog.build("calibration", other))


@dataclass(frozen=True)
class Lengths:
    """Requests whose lengths are believed to be a multiple of what they are."""

    factor: float

    def __call__(self, scenario: Scenario) -> Scenario:
        """Returns what is believed."""
        workload: dict[str, Any] = described("workload", scenario.workload)
        for key in ("prompt_scale", "output_scale"):
            workload[key] = self.factor * float(workload[key])
        return replace(scenario, workload=workload)


@dataclass(frozen=True)
class Arrivals:
    """Requests of the same lengths, as many of them, that come by another law."""

    law: str

    def __call__(self, scenario: AnyScenario) -> AnyScenario:
        """Returns what is believed, or what is."""
        own: dict[str, Any] = described("workload", scenario.workload)
        other: dict[str, Any] = described("workload", self.law)
        if not set(_NOT_OF_ARRIVALS) <= set(own):
            raise ConfigurationError(
                f"errors: {BURSTS!r} needs requests that are drawn, not those of a trace; leave "
                "the error out, or choose scenarios with suite.only"
            )
        return replace(scenario, workload={**other, **{key: own[key] for key in _NOT_OF_ARRIVALS}})


def prefix_cache(*, on: bool) -> Parts:
    """Returns a server with or without prefix caching."""
    return Parts({"server": {"prefix_caching": on}})


def _calibration(scenario: Scenario) -> Calibration:
    if scenario.calibration is not None:
        own: Calibration = catalog.build("calibration", scenario.calibration)
        return own
    gpu = catalog.build("gpu", scenario.gpu)
    built: Calibration = catalog.build("calibration", gpu.calibration)
    return built


def error_entries(config: TwinErrorsConfig) -> list[Entry]:
    """Returns the lines of the study."""
    beliefs: dict[str, list[Any]] = {
        RIGHT: [None],
        DRAWN: [Drawn(seed) for seed in config.draws],
        OTHER_GPU: [OtherGpu()],
        LONGER: [Lengths(0.5)],
        SHORTER: [Lengths(2.0)],
        CACHE: [prefix_cache(on=False)],
        BURSTS: [Arrivals("poisson_gsm8k")],
    }
    changes: dict[str, Any] = {CACHE: prefix_cache(on=True), BURSTS: Arrivals("bursty_strong")}
    choices: dict[str, Any] = {name: name for name in config.controllers}
    if config.uncorrected and "mpc" in choices:
        fixed = {"time_gain": 0.0, "power_gain": 0.0, "length_gain": 0.0}
        choices["mpc without correction"] = {"base": "mpc", "correction": fixed}
    return [
        Entry(
            f"{name}, {error}" + (f" {number}" if len(beliefs[error]) > 1 else ""),
            choice,
            believe,
            changes.get(error),
            {"controller": name, "error": error},
        )
        for error in config.errors
        for number, believe in enumerate(beliefs[error])
        for name, choice in choices.items()
    ]


def error_report(rows: Sequence[Row]) -> str:
    """Returns the study as Markdown: what each error costs each controller."""
    shown = (
        TOKENS_PER_JOULE_RELATIVE, WITHIN_BUDGET, "ttft_p99_s", CHANGES_PER_MINUTE, *DECISION_TIMES,
    )  # fmt: skip
    lines = []
    for label in dict.fromkeys(row["label"] for row in rows):
        own = next(row for row in rows if row["label"] == label)
        lines.append([own["error"], own["controller"], *metric_texts(rows, label, shown)])
    head = ["what is wrong", "controller", *(METRICS[key].label for key in shown)]
    return markdown_table(head, lines, "ll" + "r" * len(shown)) + "\n"
