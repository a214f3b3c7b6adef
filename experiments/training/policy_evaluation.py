"""How a policy in training does on held-out settings, relative to the Baseline strategy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agents.shield import BudgetShield
from agents.shielded_policy import ShieldedPolicy
from baselines.base import Policy
from envs.context import ControlContext
from experiments.evaluation.batched_rollout import Assignment, Episodes
from experiments.evaluation.metrics import Summary
from experiments.evaluation.suites import Suite

FIGURES = ("qos_violation_rate", "slo_violation_rate", "budget_overshoot_rate", "ttft_p99_s")


class PolicyEvaluation:
    """A suite's episodes, on which a policy can be tried again and again.

    Args:
        suite: The settings.
        seeds: Seeds of the episodes.
        duration_s: Length of the episodes in seconds.
        interval_s: Time between two decisions in seconds.
        action: Action encoding of the policy.
        reward: Reward configuration.
        shield: Whether the policy's caps are held within power budgets.
    """

    def __init__(
        self,
        suite: Suite,
        *,
        seeds: Sequence[int],
        duration_s: float,
        interval_s: float,
        action: Any,
        reward: Any,
        shield: bool,
    ) -> None:
        envs = {
            name: setting.make(
                action=action, reward=reward, interval_s=interval_s, duration_s=duration_s
            )
            for name, setting in suite.settings.items()
        }
        self._episodes = Episodes(envs, seeds, duration_s)
        contexts = [env.context for env in envs.values() for _ in seeds]
        self._shield = BudgetShield(contexts) if shield else None
        self._baseline: dict[str, list[Summary]] | None = None

    @property
    def context(self) -> ControlContext:
        """What a controller of the first setting is told."""
        return next(iter(self._episodes.envs.values())).context

    @property
    def baseline(self) -> dict[str, list[Summary]]:
        """Figures of the Baseline strategy, by setting."""
        if self._baseline is None:
            self._baseline = self._episodes.run(self._episodes.highest())
        return self._baseline

    def run(self, policy: Policy) -> dict[str, Any]:
        """Plays the policy on all episodes.

        Returns:
            ``mean`` over settings and ``settings`` by name: tokens per joule relative to
            Baseline, the rates of violations (``None`` where nothing is asked) and TTFT p99.
        """
        everyone = np.concatenate(list(self._episodes.members.values()))
        results = self._episodes.run([Assignment(ShieldedPolicy(policy, self._shield), everyone)])
        settings = {name: self._figures(name, results[name]) for name in results}
        return {"mean": _mean(list(settings.values())), "settings": settings}

    def _figures(self, name: str, summaries: list[Summary]) -> dict[str, float | None]:
        pairs = zip(summaries, self.baseline[name], strict=True)
        ratio = [s["tokens_per_joule"] / b["tokens_per_joule"] for s, b in pairs]
        row: dict[str, float | None] = {"efficiency": float(np.mean(ratio))}
        for key in FIGURES:
            row[key] = _known_mean([summary[key] for summary in summaries])
        return row


def _mean(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    return {key: _known_mean([row[key] for row in rows]) for key in rows[0]}


def _known_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
