"""Scenarios some of whose parts are other than they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from envs.scenario import Scenario, described
from experiments.evaluation.suites import SuiteScenario

AnyScenario = TypeVar("AnyScenario", Scenario, SuiteScenario)


@dataclass(frozen=True)
class Parts:
    """Changes of a scenario's parts.

    Attributes:
        changes: By group: another choice's name, or values of some keys of the part as it is.
    """

    changes: Mapping[str, Any]

    def __call__(self, scenario: AnyScenario) -> AnyScenario:
        """Returns the scenario with the changes."""
        parts: dict[str, Any] = {
            group: change
            if isinstance(change, str)
            else {**described(group, getattr(scenario, group)), **change}
            for group, change in self.changes.items()
        }
        return replace(scenario, **parts)
