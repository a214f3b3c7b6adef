"""Top-level keys of the applications' configurations, with their types and checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from envs import catalog
from envs.quantities import Interval, Seconds, Seed
from envs.scenario import CHOICES, Scenario
from experiments.profiling.sweep import ProfileConfig
from experiments.runs.options import RunOptions


@dataclass(kw_only=True)
class Debug:
    """What is shown of an error.

    Attributes:
        traceback: Whether the traceback is printed, too.
    """

    traceback: bool = False


@dataclass(kw_only=True)
class SingleServer:
    """One server, simulated or live (``env=single``).

    Attributes:
        domain_randomization: Draws the simulator's coefficients again for every episode,
            within their uncertainty.
    """

    domain_randomization: bool = False


@dataclass(kw_only=True)
class RunConfig:
    """What one run is made of (``conf/run.yaml``). Choices are plain mappings.

    Attributes:
        seed: Seed of every random draw of the run.
        duration: Simulated (or real) seconds that the run lasts.
        interval: Time between two decisions in seconds (arXiv:2605.21427 §3: 0.5 s).
        allow_packages: Packages besides this project's whose classes ``_target_`` may name.
        env: What is controlled: one server or several.
        server: The server, simulated or live.
        gpu: GPU the server runs on.
        model: Model it serves.
        workload: Requests it gets.
        objective: What is asked of it.
        reward: What an agent would earn.
        action: How actions encode knobs.
        controller: Who decides.
        profile: How an offline profile is made, and where a finished one lies.
        tracker: Where a run is shown besides its own files.
        debug: What is shown of an error.
        experiment: Name of a setting that changes several keys at once; ``None`` for none.
    """

    seed: Seed = 0
    duration: Seconds = 600.0
    interval: Interval = 0.5
    allow_packages: list[str] = field(default_factory=list)
    env: Any = None
    server: Any = None
    gpu: Any = None
    model: Any = None
    workload: Any = None
    objective: Any = None
    reward: Any = None
    action: Any = None
    controller: Any = None
    profile: ProfileConfig = field(default_factory=ProfileConfig)
    tracker: Any = None
    debug: Debug = field(default_factory=Debug)
    experiment: Any = None

    @property
    def scenario(self) -> Scenario:
        """What is controlled; what the nodes of a cluster share."""
        env = catalog.build("env", self.env)
        single = isinstance(env, SingleServer)
        return Scenario(
            **{name: getattr(self, name) for name in CHOICES if hasattr(self, name)},
            interval_s=self.interval,
            duration_s=self.duration,
            domain_randomization=env.domain_randomization if single else False,
        )

    def options(self, controller_name: str) -> RunOptions:
        """How it is run.

        Args:
            controller_name: Name of the controller's choice, for the summary.
        """
        cluster = not isinstance(catalog.build("env", self.env), SingleServer)
        return RunOptions(
            seed=self.seed,
            controller=self.controller,
            controller_name=controller_name,
            profile=self.profile,
            tracker=self.tracker,
            cluster=self.env if cluster else None,
            allow_packages=tuple(self.allow_packages),
            traceback=self.debug.traceback,
        )


@dataclass(kw_only=True)
class CompareConfig(RunConfig):
    """What a comparison is made of (``conf/compare.yaml``).

    Attributes:
        controllers: Names of the controllers to compare.
        seeds: Number of seeds, counted up from ``seed``; or the list of seeds.
        executor: How runs are spread over processes.
    """

    controllers: list[str] = field(
        default_factory=lambda: ["static", "adaptive_batch", "adaptive_cap", "pals", "oracle"]
    )
    seeds: Any = 5
    executor: Any = None
