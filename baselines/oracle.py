"""The best static choice of knobs in hindsight: an upper bound that cannot be deployed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from baselines.base import KnobController, Outcome, Preparation
from envs.context import ControlContext
from envs.errors import ConfigurationError
from envs.knobs import Knobs
from envs.observations import Observation
from envs.quantities import Fraction


@dataclass(kw_only=True)
class Oracle(KnobController):
    """Tries all knobs of the grid on the coming episode and keeps the best.

    It looks ahead: each choice of knobs runs with the arrivals, targets and budgets of the coming
    episode (arXiv:2605.21427 §4's exhaustive search). It takes the most tokens per joule among
    the choices within all limits, and the one that exceeds the limits least if there is none.

    Attributes:
        qos_limit: Highest fraction of time in (reference-relative) throughput violation.
        slo_limit: Highest fraction of requests that miss a latency SLO.
        budget_limit: Highest fraction of intervals above the power budget.
    """

    qos_limit: Fraction = 0.05
    slo_limit: Fraction = 0.05
    budget_limit: Fraction = 0.05

    @override
    def bind(self, context: ControlContext) -> None:
        super().bind(context)
        self.choice: Knobs | None = None

    def prepare(self, preparation: Preparation) -> None:
        """Searches the grid on the coming episode; to be called before every episode."""
        choices = self.context.grid.choices
        outcomes = preparation.evaluate(choices)
        best = max(range(len(choices)), key=lambda index: self._merit(outcomes[index]))
        self.choice = choices[best]

    def _merit(self, outcome: Outcome) -> tuple[float, float]:
        excess = (
            max(0.0, outcome.qos_violation_rate - self.qos_limit)
            + max(0.0, outcome.slo_violation_rate - self.slo_limit)
            + max(0.0, outcome.budget_overshoot_rate - self.budget_limit)
        )
        return -excess, outcome.tokens_per_joule

    @override
    def decide(self, observation: Observation, state: Any) -> tuple[Knobs, Any]:
        if self.choice is None:
            raise ConfigurationError("controller: prepare() must be called before predict()")
        return self.choice, None
