"""How a scenario is run: by whom, with which seed, and where it is shown."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from omegaconf import MISSING

from baselines.base import Controller
from envs import catalog
from envs.cluster.config import ServerCluster
from envs.errors import ConfigurationError
from envs.scenario import CHOICES, Named, Scenario, described
from experiments.profiling.sweep import ProfileConfig
from experiments.records.tracking import Tracker

MOST_SEEDS = 100_000
"""Seeds of one evaluation; more are a mistake, such as a seed in place of their number."""
_SINGLE = "experiments.app.settings.SingleServer"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a scenario is run. Choices as in :class:`~envs.scenario.Scenario`.

    Attributes:
        seed: Seed of every random draw of the run.
        controller: Who decides.
        controller_name: Name of the controller in the summary.
        profile: How an offline profile is made, and where a finished one lies.
        tracker: Where a run is shown besides its own files.
        cluster: The nodes that share the scenario and a power budget; ``None`` for one server.
        allow_packages: Packages besides this project's that the command line allowed.
        traceback: Whether the traceback of an error is printed, too.
    """

    seed: int = 0
    controller: Named | Controller = "pals"
    controller_name: str = "pals"
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    tracker: Named | Tracker = "files"
    cluster: Mapping[str, Any] | ServerCluster | None = None
    allow_packages: tuple[str, ...] = ()
    traceback: bool = False

    def new_controller(self) -> Controller:
        """Returns a controller of this run's own, not yet bound."""
        controller: Controller = catalog.build("controller", copy.deepcopy(self.controller))
        return controller

    def new_cluster(self) -> ServerCluster:
        """Returns the cluster with an allocator of this run's own.

        Raises:
            ConfigurationError: There is none, or its description is wrong.
        """
        if self.cluster is None:
            raise ConfigurationError("env: this is one server; choose env=cluster")
        cluster: ServerCluster = catalog.build("env", copy.deepcopy(self.cluster))
        return cluster


def check_times(scenario: Scenario, seed: int) -> None:
    """Checks the seed, and duration and interval together.

    Raises:
        ConfigurationError: One of them is out of range.
    """
    if seed < 0:
        raise ConfigurationError(f"seed: must be >= 0, got {seed}")
    if scenario.duration_s < scenario.interval_s:
        raise ConfigurationError(
            f"duration: must be at least one interval ({scenario.interval_s:g} s), "
            f"got {scenario.duration_s:g}"
        )


def run_record(scenario: Scenario, options: RunOptions) -> dict[str, Any]:
    """Returns a run's configuration as plain values, under the keys of the command line.

    It is what ``config.yaml`` holds and provenance is taken from; a run of it is the same run.

    Raises:
        ConfigurationError: A choice cannot be written down.
    """
    content = {
        name: _stated(value) if isinstance(value, Mapping) else value
        for name, value in scenario.content().items()
    }
    single = {"_target_": _SINGLE, "domain_randomization": scenario.domain_randomization}
    record = {
        "seed": options.seed,
        "duration": scenario.duration_s,
        "interval": scenario.interval_s,
        "allow_packages": list(options.allow_packages),
        "env": single if options.cluster is None else described("env", options.cluster),
        **{name: content[name] for name in CHOICES if content[name] is not None},
        "controller": described("controller", options.controller),
        "profile": described("profile", options.profile),
        "tracker": described("tracker", options.tracker),
        "debug": {
            "_target_": "experiments.app.settings.Debug",
            "traceback": options.traceback,
        },
    }
    return record


def _stated(choice: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a choice says; a model's file says the rest (``describe.json`` has it)."""
    return {key: value for key, value in choice.items() if value != MISSING}


def seed_list(seeds: Any, first: int) -> list[int]:
    """Returns the seeds that ``seeds`` (a number of seeds or a list of them) stands for.

    Raises:
        ConfigurationError: It is neither a positive number nor a list of different seeds.
    """
    values: list[Any] = []
    if _is_whole(seeds) and seeds <= MOST_SEEDS:
        values = list(range(first, first + int(seeds)))
    elif isinstance(seeds, Iterable) and not isinstance(seeds, str | bytes | Mapping):
        values = list(islice(seeds, MOST_SEEDS + 1))
    usable = len(values) <= MOST_SEEDS and all(_is_whole(seed) and seed >= 0 for seed in values)
    if not values or not usable or len(set(values)) < len(values):
        raise ConfigurationError(
            f"seeds: must be a positive number up to {MOST_SEEDS:,} or a list of different seeds "
            f">= 0, got {str(seeds)[:200]}"
        )
    return [int(seed) for seed in values]


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
