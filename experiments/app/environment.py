"""Builds the environment that a configuration describes (the ``env`` group)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig

from envs import catalog, factory
from envs.scenario import CHOICES, Scenario
from envs.serving import ServingEnv


@dataclass(kw_only=True)
class SingleServer:
    """One server, simulated or live.

    Attributes:
        domain_randomization: Draws the simulator's coefficients again for every episode,
            within their uncertainty.
    """

    domain_randomization: bool = False

    def make(self, config: DictConfig, **replaced: Any) -> ServingEnv:
        """Builds the environment.

        Args:
            config: A composed configuration of a run.
            **replaced: Parts that take the place of the configuration's, such as
                ``workload``: a name, a mapping, a configuration or a built object.

        Raises:
            PalsError: The configuration is wrong, or a live server cannot be reached.
        """
        return factory.make_env(replace(scenario_of(config), **replaced))


def scenario_of(config: DictConfig) -> Scenario:
    """Returns the scenario of a composed configuration."""
    parts = {name: config[name] for name in CHOICES if name in config}
    return Scenario(
        **parts,
        interval_s=float(config.interval),
        duration_s=float(config.duration),
        domain_randomization=bool(config.env.get("domain_randomization", False)),
    )


def is_simulated(config: DictConfig) -> bool:
    """Returns whether the server is simulated: an episode can be run again, or ahead of time."""
    return scenario_of(config).is_simulated


def runner_of(config: DictConfig) -> str | None:
    """Returns the function that runs this kind of environment; ``None`` for the usual one.

    It is named by ``runner`` of the class in the ``env`` group, and is called with what
    :func:`experiments.runs.runner.execute` is called with.
    """
    return getattr(catalog.buildable("env", str(config.env["_target_"])), "runner", None)


def make_env(config: DictConfig, **replaced: Any) -> ServingEnv:
    """Builds the environment of a configuration; see :meth:`SingleServer.make`."""
    builder: SingleServer = catalog.build("env", config.env)
    return builder.make(config, **replaced)
