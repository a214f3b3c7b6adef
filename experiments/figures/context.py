"""Where figures are made: what they fraction of a run of the command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig

from agents.bundle import find_bundle
from envs import catalog
from envs.errors import ConfigurationError
from experiments.app.executors import Executor
from experiments.figures.saturation import Point, Steady, SteadyConfig, measure
from experiments.records.hashing import plain

FIRST_SEED = 2_000_000
"""First seed of every episode; agents are trained and benchmarked on others."""


@dataclass(frozen=True)
class Workshop:
    """What figures are made with.

    Attributes:
        directory: Folder of the command; runs are kept below ``runs``.
        executor: How runs are spread over processes.
        tell: Called with what is being done, how much is done and how much there is.
    """

    directory: Path
    executor: Executor
    tell: Callable[[str, int, int], None]

    def named(self, figure: str) -> Workshop:
        """Returns the workshop with the figure's name before all that is being done."""
        tell = self.tell
        return replace(self, tell=lambda what, done, all_: tell(f"{figure}: {what}", done, all_))

    def compose(self, *overrides: str) -> DictConfig:
        """Composes the configuration of a run."""
        return compose("run", overrides=list(overrides))

    def measure(
        self,
        what: str,
        points: Sequence[Point],
        settings: SteadyConfig,
        *,
        uncertainty: bool = False,
    ) -> dict[Point, Steady]:
        """Measures full servers; see :func:`experiments.figures.saturation.measure`."""
        return measure(
            points,
            settings,
            uncertainty=uncertainty,
            on_part=lambda done, all_: self.tell(what, done, all_),
        )


def agents_at_hand(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns which trained agents can be played, and a sentence for each that cannot.

    Args:
        names: Names of their choices in ``conf/controller``.
    """
    there, missing = [], []
    for name in names:
        if name not in catalog.names("controller"):
            missing.append(
                f"The learned agent `{name}` is not here: no conf/controller/{name}.yaml."
            )
            continue
        node: Any = plain(catalog.load("controller", name))
        try:
            find_bundle(str(node["bundle"]))
        except ConfigurationError:
            missing.append(f"The learned agent `{name}` is not here: its bundle is missing.")
            continue
        there.append(name)
    return there, missing
