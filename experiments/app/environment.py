"""Builds the environment that a configuration describes (the ``env`` group)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from envs import catalog
from envs.serving import ServingEnv

SIMULATED = "envs.factory.make_simulated"
"""Factory of servers whose configuration class names no other in ``factory``."""


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
        parts: dict[str, Any] = {
            key: config[key]
            for key in ("model", "gpu", "workload", "objective", "action", "reward", "server")
        }
        arguments = {**parts, "interval": config.interval, "duration": config.duration}
        if self.domain_randomization:
            arguments["domain_randomization"] = True
        environment: ServingEnv = catalog.locate(_factory(config))(**{**arguments, **replaced})
        return environment


def is_simulated(config: DictConfig) -> bool:
    """Returns whether the server is simulated: an episode can be run again, or ahead of time."""
    return _factory(config) == SIMULATED


def _factory(config: DictConfig) -> str:
    cls = catalog.locate(str(config.server["_target_"]))
    return str(getattr(cls, "factory", SIMULATED))


def runner_of(config: DictConfig) -> str | None:
    """Returns the function that runs this kind of environment; ``None`` for the usual one.

    It is named by ``runner`` of the class in the ``env`` group, and is called with what
    :func:`experiments.runs.runner.execute` is called with.
    """
    return getattr(catalog.locate(str(config.env["_target_"])), "runner", None)


def make_env(config: DictConfig, **replaced: Any) -> ServingEnv:
    """Builds the environment of a configuration; see :meth:`SingleServer.make`."""
    builder: SingleServer = catalog.build("env", config.env)
    return builder.make(config, **replaced)
