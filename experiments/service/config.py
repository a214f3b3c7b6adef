"""Configuration of the control service (``conf/control.yaml``)."""

from __future__ import annotations

from dataclasses import dataclass, field

from envs.errors import ConfigurationError
from experiments.app.settings import RunConfig


@dataclass(kw_only=True)
class ServiceConfig:
    """How the service is looked at, and what it keeps.

    Attributes:
        host: Address that ``/healthz`` and ``/metrics`` are served at.
        port: Port they are served at; 0 takes a free one.
        stale_intervals: Intervals without a decision after which the service counts as not well.
    """

    host: str = "127.0.0.1"
    port: int = 9464
    stale_intervals: int = 20

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ConfigurationError: A value is out of range.
        """
        if not 0 <= self.port < 65536:
            raise ConfigurationError(f"service.port: {self.port} is no port")
        if self.stale_intervals < 1:
            raise ConfigurationError("service.stale_intervals: must be >= 1")


@dataclass(kw_only=True)
class ControlConfig(RunConfig):
    """A run without an end; ``duration`` is the time after which targets and budgets repeat.

    Attributes:
        service: How the service is looked at.
    """

    duration: float = 86400.0
    service: ServiceConfig = field(default_factory=ServiceConfig)
