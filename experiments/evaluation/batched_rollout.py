"""Many episodes at once: the numbers of :func:`experiments.evaluation.rollout.run_episode`, sooner.

Every episode is a server of one vector environment, and a controller decides for all of its
servers in one call. Use it on the simulator, where the time of a run is spent on Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.base import Policy
from envs.serving import ServingEnv
from envs.simulator.vector import VectorServer, VectorServingEnv
from envs.telemetry import MODELLED, NUMERIC_FIELDS
from experiments.evaluation.baseline import baseline, evaluated
from experiments.evaluation.decisions import DecisionClock, Decisions
from experiments.evaluation.metrics import RunMetrics
from experiments.evaluation.qos import add_reference, violation_rate
from experiments.evaluation.rollout import Episode
from experiments.records.interval_table import IntervalTable

FloatArray = NDArray[np.float64]
OnStep = Callable[[int, int], None]


class Assignment(NamedTuple):
    """The servers of a vector that one policy decides for.

    Attributes:
        policy: A controller that is bound to their context, and prepared; or a policy whose
            actions are in their own encoding.
        members: Indices of the servers, ascending; all of one scenario for a controller.
    """

    policy: Policy
    members: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class EpisodeMetrics(RunMetrics):
    """The metrics of an episode that ran beside Baseline.

    Attributes:
        qos_violation_rate_within_budget: Rate of violations against a Baseline that keeps to
            the power budget; the usual rate where there is none.
        decision_p50_s: Median wall-clock time of a decision about one server; no part of
            comparisons between metrics, as it is never the same twice.
        decision_p99_s: 99th percentile.
    """

    qos_violation_rate_within_budget: float | None
    decision_p50_s: float | None = field(default=None, compare=False)
    decision_p99_s: float | None = field(default=None, compare=False)


def run_batch(
    env: VectorServingEnv,
    assignments: Sequence[Assignment],
    *,
    seeds: Sequence[int],
    duration_s: float,
    on_step: OnStep | None = None,
) -> list[Episode]:
    """Lets controllers run every server of a vector environment for one episode.

    Args:
        env: A vector environment without automatic reset.
        assignments: Who decides for which servers; together they cover all of them.
        seeds: Seed of each server's episode, the same as a single environment would get.
        duration_s: Length of the episodes in seconds.
        on_step: Called after every interval with its number and how many there are.

    Returns:
        One episode per server, as :func:`experiments.evaluation.rollout.run_episode` would give it.
    """
    intervals = max(1, round(duration_s / env.interval_s))
    observation, _ = env.reset(seed=list(seeds))
    clocks = [DecisionClock(policy) for policy, _ in assignments]
    actions = np.zeros_like(env.action_space.sample())
    record = _Record(intervals, env.num_envs)
    start = np.ones(env.num_envs, dtype=np.bool_)
    for interval in range(intervals):
        for clock, (_, members) in zip(clocks, assignments, strict=True):
            actions[members] = clock.decide(observation[members], start[members])
        start[:] = False
        observation, reward, _, _, info = env.step(actions)
        record.add(interval, reward, info)
        if on_step is not None:
            on_step(interval + 1, intervals)
    made = [Decisions()] * env.num_envs
    for clock, (_, members) in zip(clocks, assignments, strict=True):
        own = clock.finish()
        for index in members.tolist():
            made[index] = own
    return [
        Episode(record.table(index), env.fleet.latency(index), MODELLED, made[index])
        for index in range(env.num_envs)
    ]


class _Record:
    """Columns of all servers, shape ``(intervals, num_envs)`` each."""

    def __init__(self, intervals: int, num_envs: int) -> None:
        self._shape = (intervals, num_envs)
        self._columns: dict[str, FloatArray] = {}

    def add(self, interval: int, reward: FloatArray, info: dict[str, Any]) -> None:
        telemetry, conditions, knobs = info["telemetry"], info["conditions"], info["knobs"]
        for name in NUMERIC_FIELDS:
            self._put(interval, name, getattr(telemetry, name))
        for name, value in zip(conditions._fields, conditions, strict=True):
            self._put(interval, name, value)
        for name, value in zip(knobs._fields, knobs, strict=True):
            self._put(interval, f"requested_{name}", np.nan if value is None else value)
        self._put(interval, "reward", reward)
        for name, value in info["rewards"].items():
            self._put(interval, f"reward_{name}", value)
        for name in ("throughput_tok_s", "cost", "violation_backlog", "violation_plain"):
            self._put(interval, name, info[name])

    def _put(self, interval: int, name: str, values: Any) -> None:
        if name not in self._columns:
            self._columns[name] = np.empty(self._shape)
        self._columns[name][interval] = values

    def table(self, index: int) -> IntervalTable:
        return IntervalTable.from_columns(
            {name: column[:, index] for name, column in self._columns.items()}
        )


class Episodes:
    """The same episodes of some scenarios for one controller after another.

    Args:
        envs: A single environment per scenario, by the scenario's name.
        seeds: Seeds of the episodes of each scenario.
        duration_s: Length of the episodes in seconds.
    """

    def __init__(
        self, envs: Mapping[str, ServingEnv], seeds: Sequence[int], duration_s: float
    ) -> None:
        self.envs = dict(envs)
        self.seeds = list(seeds)
        self.duration_s = duration_s
        self.members = {
            name: np.arange(len(self.seeds)) + number * len(self.seeds)
            for number, name in enumerate(self.envs)
        }
        self._env = vector_of([env for env in self.envs.values() for _ in self.seeds])
        self._reference: list[FloatArray] | None = None
        self._within_budget: list[FloatArray] | None = None

    def highest(self, *, respect_budget: bool = False) -> list[Assignment]:
        """Returns the Baseline strategy on every scenario.

        Args:
            respect_budget: Whether it keeps to power budgets; the paper's knows none.
        """
        return [
            Assignment(baseline(env.context, respect_budget=respect_budget), self.members[name])
            for name, env in self.envs.items()
        ]

    @property
    def reference(self) -> list[FloatArray]:
        """Output tokens per interval of the Baseline strategy, one array an episode."""
        if self._reference is None:
            self._reference = self._tokens(self.highest())
        return self._reference

    @property
    def within_budget(self) -> list[FloatArray]:
        """The same of the highest knobs that the power budget leaves, throughout."""
        if self._within_budget is None:
            self._within_budget = self._tokens(self.highest(respect_budget=True))
        return self._within_budget

    def _tokens(self, assignments: Sequence[Assignment]) -> list[FloatArray]:
        return [episode.table["output_tokens"] for episode in self._run(assignments)]

    def run(
        self, assignments: Sequence[Assignment], on_step: OnStep | None = None
    ) -> dict[str, list[EpisodeMetrics]]:
        """Runs controllers and returns the metrics of each scenario's episodes, by seed.

        Args:
            assignments: Who decides for which servers; :attr:`members` has those of a scenario.
            on_step: See :func:`run_batch`.
        """
        episodes = self._run(assignments, on_step)
        result = {}
        for name, env in self.envs.items():
            result[name] = [
                self._evaluated(episodes[index], int(index), env) for index in self.members[name]
            ]
        return result

    def _evaluated(self, episode: Episode, index: int, env: ServingEnv) -> EpisodeMetrics:
        metrics = evaluated(episode, self.reference[index], env)
        table, qos = episode.table, env.context.qos
        within_budget = metrics.qos_violation_rate
        if within_budget is not None and np.isfinite(table["power_budget_w"]).any():
            tokens = self.within_budget[index]
            add_reference(table, tokens, qos, env.interval_s, "within_budget")
            within_budget = violation_rate(table, "within_budget", qos)
        return EpisodeMetrics(
            **metrics.to_dict(),
            qos_violation_rate_within_budget=within_budget,
            decision_p50_s=episode.decisions.p50_s,
            decision_p99_s=episode.decisions.p99_s,
        )

    def _run(
        self, assignments: Sequence[Assignment], on_step: OnStep | None = None
    ) -> list[Episode]:
        seeds = self.seeds * len(self.envs)
        return run_batch(
            self._env, assignments, seeds=seeds, duration_s=self.duration_s, on_step=on_step
        )


def vector_of(envs: list[ServingEnv]) -> VectorServingEnv:
    """Returns servers that run until they are reset."""
    return VectorServingEnv(
        [VectorServer.like(env) for env in envs],
        envs[0].reward,
        interval_s=envs[0].interval_s,
        horizon_s=envs[0].intervals * envs[0].interval_s,
        max_episode_steps=np.iinfo(np.int64).max,
        autoreset_mode="disabled",
    )
