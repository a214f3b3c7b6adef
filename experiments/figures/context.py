"""Runs, measurements and progress that the figures of one command share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.bundle import find_bundle
from envs import catalog
from envs.errors import ConfigurationError
from experiments.app.composition import composed
from experiments.app.executors import Executor
from experiments.app.settings import RunConfig
from experiments.figures.operating_point import OperatingPoint
from experiments.figures.saturation import SteadyConfig, SteadyState, measure
from experiments.records.hashing import plain

FIRST_SEED = 2_000_000
"""First seed of every episode; agents are trained and benchmarked on other seeds."""


@dataclass(frozen=True)
class FigureContext:
    """Runs and measures for figures, and reports progress.

    Attributes:
        directory: Folder of the command; runs are kept below ``runs``.
        executor: How runs are spread over processes.
        report: Called with the name of a stage, the number of parts done and of all parts.
    """

    directory: Path
    executor: Executor
    report: Callable[[str, int, int], None]

    def named(self, figure: str) -> FigureContext:
        """Returns the context of one figure, whose stages begin with the figure's name."""

        def report(stage: str, done: int, total: int) -> None:
            self.report(f"{figure}: {stage}", done, total)

        return replace(self, report=report)

    def compose(self, *overrides: str) -> RunConfig:
        """Composes the configuration of a run."""
        return composed(RunConfig, "run", *overrides)

    def measure(
        self,
        stage: str,
        points: Sequence[OperatingPoint],
        config: SteadyConfig,
        *,
        uncertainty: bool = False,
    ) -> dict[OperatingPoint, SteadyState]:
        """Measures full servers and reports progress.

        The arguments are those of :func:`experiments.figures.saturation.measure`.
        """
        return measure(
            points,
            config,
            uncertainty=uncertainty,
            on_part=lambda done, total: self.report(stage, done, total),
        )


def available_agents(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the trained agents that can be evaluated, and a sentence for each that cannot.

    Args:
        names: Names of their choices in ``conf/controller``.
    """
    there, missing = [], []
    for name in names:
        if name not in catalog.names("controller"):
            missing.append(
                f"The learned agent `{name}` is missing: there is no conf/controller/{name}.yaml."
            )
            continue
        node: Any = plain(catalog.load("controller", name))
        try:
            find_bundle(str(node["bundle"]))
        except ConfigurationError:
            missing.append(f"The learned agent `{name}` is missing: its bundle is not found.")
            continue
        there.append(name)
    return there, missing
