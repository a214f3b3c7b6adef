"""How a policy in training does on held-out scenarios, relative to the Baseline strategy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agents.memory import Memory, Remembering
from agents.shield import BudgetShield
from agents.shielded_policy import ShieldedPolicy
from baselines.base import Policy
from envs.context import ControlContext
from envs.errors import ConfigurationError
from experiments.evaluation.batched_rollout import Assignment, EpisodeMetrics, Episodes
from experiments.evaluation.metric_table import TOKENS_PER_JOULE_RELATIVE, metrics_of
from experiments.evaluation.statistics import known_mean
from experiments.evaluation.suites import Suite

_ABSOLUTE = metrics_of(
    "qos_violation_rate", "slo_violation_rate", "budget_overshoot_rate", "ttft_p99_s"
)
EVALUATION_TABLE = (*metrics_of(TOKENS_PER_JOULE_RELATIVE), *_ABSOLUTE)
"""What a policy in training is evaluated by."""


class PolicyEvaluation:
    """A suite's episodes, on which a policy can be evaluated again and again.

    Args:
        suite: The scenarios.
        seeds: Seeds of the episodes.
        duration_s: Length of the episodes in seconds.
        interval_s: Time between two decisions in seconds.
        action: Action encoding of the policy.
        reward: Reward configuration.
        shield: Whether the policy's caps are held within power budgets.
        memory: What the policy is shown of the past.
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
        memory: Memory,
    ) -> None:
        envs = {
            name: scenario.make(
                action=action, reward=reward, interval_s=interval_s, duration_s=duration_s
            )
            for name, scenario in suite.scenarios.items()
        }
        self._episodes = Episodes(envs, seeds, duration_s)
        warmup_s = max(env.context.qos.warmup_s for env in envs.values())
        if duration_s <= warmup_s:
            raise ConfigurationError(
                f"evaluate_duration: must be longer than the {warmup_s:g} s in which nothing is "
                f"evaluated (objective.qos.warmup_s), got {duration_s:g}"
            )
        contexts = [env.context for env in envs.values() for _ in seeds]
        self._shield = BudgetShield(contexts) if shield else None
        self._remembering = Remembering(memory, contexts[0].layout, interval_s)
        self._baseline: dict[str, list[EpisodeMetrics]] | None = None

    @property
    def context(self) -> ControlContext:
        """What a controller of the first scenario is told."""
        return next(iter(self._episodes.envs.values())).context

    @property
    def baseline(self) -> dict[str, list[EpisodeMetrics]]:
        """Metrics of the Baseline strategy, by scenario."""
        if self._baseline is None:
            self._baseline = self._episodes.run(self._episodes.highest())
        return self._baseline

    def run(self, policy: Policy) -> dict[str, Any]:
        """Evaluates the policy on all episodes.

        Returns:
            ``mean`` over scenarios and ``scenarios`` by name: the metrics of
            :data:`EVALUATION_TABLE` by key, ``None`` for what does not apply.
        """
        everyone = np.concatenate(list(self._episodes.members.values()))
        decides = ShieldedPolicy(self._remembering.policy(policy), self._shield)
        results = self._episodes.run([Assignment(decides, everyone)])
        scenarios = {name: self._row(name, results[name]) for name in results}
        return {"mean": _mean(list(scenarios.values())), "scenarios": scenarios}

    def _row(self, name: str, episodes: list[EpisodeMetrics]) -> dict[str, float | None]:
        pairs = zip(episodes, self.baseline[name], strict=True)
        relative = [own.efficiency_over(base) for own, base in pairs]
        values = [episode.to_dict() for episode in episodes]
        return {
            TOKENS_PER_JOULE_RELATIVE: float(np.mean(relative)),
            **{m.key: known_mean([row[m.key] for row in values]) for m in _ABSOLUTE},
        }


def _mean(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    return {key: known_mean([row[key] for row in rows]) for key in rows[0]}
