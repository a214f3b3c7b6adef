"""Settings that a service reads again: what may change takes hold, of the rest it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from baselines.base import Controller
from envs.objectives.objective import Objective

_BOUND = ("objective.qos", "objective.power_scope")
"""What controllers were bound to when they started."""


class Asked(NamedTuple):
    """What the settings ask for now.

    Attributes:
        objective: Targets, budgets and SLOs.
        controller: A controller with the parameters asked for, not bound.
        settings: All settings, as :func:`flat` returns them.
    """

    objective: Objective
    controller: Controller
    settings: Mapping[str, Any]


class Changes(NamedTuple):
    """Settings that differ from those in force, by key.

    Attributes:
        objective: Those of the objective that can take hold.
        controller: Those of the controller that can take hold.
        restart: Those that need a restart.
    """

    objective: list[str]
    controller: list[str]
    restart: list[str]


def flat(settings: Any, key: str = "") -> dict[str, Any]:
    """Returns settings by their whole key, such as ``objective.target.value``."""
    if is_dataclass(settings) and not isinstance(settings, type):
        settings = {item.name: getattr(settings, item.name) for item in fields(settings)}
    if not isinstance(settings, Mapping):
        return {key: settings}
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value, f"{key}.{name}" if key else str(name))
    return found


def changes(
    settings: Mapping[str, Any], asked: Mapping[str, Any], adjustable: frozenset[str]
) -> Changes:
    """Returns which settings differ, and what becomes of each.

    Args:
        settings: Those in force.
        asked: Those asked for.
        adjustable: Parameters that the controller takes over while it controls.
    """
    keys = sorted(
        key for key in {*settings, *asked} if settings.get(key, ...) != asked.get(key, ...)
    )
    found = Changes([], [], [])
    another = "controller._target_" in keys
    for key in keys:
        group, _, rest = key.partition(".")
        if group == "objective" and not key.startswith(_BOUND):
            found.objective.append(key)
        elif group == "controller" and not another and rest.partition(".")[0] in adjustable:
            found.controller.append(key)
        else:
            found.restart.append(key)
    return found


def adjustable(controller: Controller) -> frozenset[str]:
    """Returns the parameters that a controller takes over while it controls."""
    names: frozenset[str] = getattr(controller, "adjustable", frozenset())
    return names
