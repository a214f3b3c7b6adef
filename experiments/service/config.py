"""Configuration of the control service (``conf/control.yaml``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from envs.fields import Checked, Range
from envs.quantities import Count, Seconds
from experiments.app.settings import RunConfig


@dataclass(kw_only=True)
class ServiceConfig(Checked):
    """How the service is looked at, and what it keeps.

    Attributes:
        host: Address that ``/healthz`` and ``/metrics`` are served at.
        port: Port they are served at; 0 takes a free one.
        stale_intervals: Intervals without a decision after which the service counts as not well.
    """

    config_key: ClassVar[str] = "service"

    host: str = "127.0.0.1"
    port: Annotated[int, Range(least=0, most=65_535)] = 9464
    stale_intervals: Count = 20


@dataclass(kw_only=True)
class ControlConfig(RunConfig):
    """A run without an end; ``duration`` is the time after which targets and budgets repeat.

    Attributes:
        service: How the service is looked at.
    """

    duration: Seconds = 86400.0
    service: ServiceConfig = field(default_factory=ServiceConfig)
