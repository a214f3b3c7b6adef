"""Choices of controllers with some of their parameters set, and the knobs that they may move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ACTION = "action"


def nested(controller: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a controller's choice with some values by key, such as ``feedback.kp``."""
    choice: dict[str, Any] = {"base": controller}
    for key, value in values.items():
        *path, last = key.split(".")
        place = choice
        for name in path:
            place = place.setdefault(name, {})
        place[last] = value
    return choice


def with_knobs(choice: Any) -> tuple[Any, Any]:
    """Splits a choice into the controller's own and the encoding of actions that it asks for.

    The key ``action`` of a choice is such an encoding (``{base: grid, sm_clock: true}``): which
    knobs the controller may move, where these are not those of the whole comparison.

    Args:
        choice: A controller's name, or a mapping.

    Returns:
        The controller's choice, and the encoding; ``None`` where it asks for none.
    """
    if not isinstance(choice, Mapping) or ACTION not in choice:
        return choice, None
    own = {key: value for key, value in choice.items() if key != ACTION}
    return own, choice[ACTION]
