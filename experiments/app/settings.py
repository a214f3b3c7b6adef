"""Top-level keys of the applications' configurations, with their types and checks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from envs.errors import ConfigurationError


@dataclass(kw_only=True)
class Debug:
    """What is shown of an error.

    Attributes:
        traceback: Whether the traceback is printed, too.
    """

    traceback: bool = False


@dataclass(kw_only=True)
class RunConfig:
    """What one run is made of (``conf/config.yaml``).

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

    seed: int = 0
    duration: float = 600.0
    interval: float = 0.5
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
    profile: Any = None
    tracker: Any = None
    debug: Any = None
    experiment: Any = None


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


def check_times(config: DictConfig) -> None:
    """Checks seed, duration and interval.

    Raises:
        ConfigurationError: One of them is out of range.
    """
    if config.seed < 0:
        raise ConfigurationError(f"seed: must be >= 0, got {config.seed}")
    for key in ("interval", "duration"):
        value = config[key]
        if not (math.isfinite(value) and value > 0):
            raise ConfigurationError(f"{key}: must be a positive number of seconds, got {value}")
    if config.duration < config.interval:
        raise ConfigurationError(
            f"duration: must be at least one interval ({config.interval:g} s), "
            f"got {config.duration:g}"
        )


def seed_list(seeds: Any, first: int) -> list[int]:
    """Returns the seeds that ``seeds`` (a number of seeds or a list of them) stands for.

    Raises:
        ConfigurationError: It is neither a positive number nor a list of different seeds.
    """
    values = list(range(first, first + seeds)) if isinstance(seeds, int) else list(seeds or [])
    usable = all(isinstance(seed, int) and seed >= 0 for seed in values)
    if not values or not usable or len(set(values)) < len(values):
        raise ConfigurationError(
            f"seeds: must be a positive number or a list of different seeds >= 0, got {seeds}"
        )
    return values
