"""What every action leads to from the states of some servers: the cost of plans on their forks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.budgets import PowerScopes
from baselines.twin.cost import (
    COLUMNS,
    ENERGY,
    MISSED,
    OUTPUT,
    OVERDUE,
    PROMPT,
    RUNNING,
    windowed,
)
from envs.context import ControlContext
from envs.objectives.conditions import Conditions
from envs.simulator.forks import Forks
from envs.simulator.vector import VectorServingEnv
from envs.telemetry import Telemetry
from experiments.imitation.beside import BaselineFleet, Spending
from experiments.imitation.plans import Plans
from experiments.imitation.prices import LessonCost

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_ROUNDING = 1e-4
_FREE_MHZ = 1e9
"""Stands for a clock without a limit where knobs are compared."""
_SLOW = 0.95
"""Time per token over an interval, as a fraction of the TPOT SLO, above which it is slow."""
_SPARE, _NO_SPARE = 0.7, 0.9
"""The same over the life of a request: up to the first a slow interval makes no request late, from
the second on each does."""
_FULL = 0.9
"""Use of the KV cache from which on a lower batch limit may spare preemptions."""
_RULED_OUT = 1e4
"""Cost of a plan that is not to be followed; half precision holds it."""


class Lesson(NamedTuple):
    """What plans cost from some states; all in Baseline's energy over an interval.

    Attributes:
        base: Energy, less the worth of the work, and the price of late requests, shape
            ``(states, plans)``.
        violations: Intervals in violation of QoS, weighted by how far they fall short.
        changes: How often the knobs move.
    """

    base: FloatArray
    violations: FloatArray
    changes: FloatArray


class Teacher:
    """Tries plans on forks of the servers of an environment.

    The forks know the requests to come; demands are taken to stay as they are. A student that is
    taught by mean costs learns what is best for the futures that its observation leaves open.

    Args:
        env: The servers; their episodes begin together.
        randomize: Whether their physics are drawn for every episode.
        plans: The plans to try.
        cost: Prices.
        slo_price: Price of a request past an SLO that is demanded, as ``cost.late_price``.
        first_s: Length of a plan's first phase in seconds.
        horizon_s: Length of a plan in seconds.
        at_once: How many servers it looks at in one call.
    """

    def __init__(
        self,
        env: VectorServingEnv,
        *,
        randomize: bool,
        plans: Plans,
        cost: LessonCost,
        slo_price: float,
        first_s: float,
        horizon_s: float,
        at_once: int,
    ) -> None:
        contexts: Sequence[ControlContext] = env.contexts
        specs: Any = env.fleet.server_specs
        self._interval_s = interval_s = env.interval_s
        self._env, self._cost, self._slo_price = env, cost, slo_price
        self._baseline = BaselineFleet(
            specs, contexts, randomize=randomize, at_once=at_once,
            prompt_weight=cost.prompt_weight,
        )  # fmt: skip
        lowered = plans.first[:, 1] < plans.sizes[1] - 1
        # Those that keep the highest batch limit, which are tried always, and the others.
        self._sets = [np.flatnonzero(~lowered), np.flatnonzero(lowered)]
        self._forks = [Forks(env.fleet, max(1, len(own)), at_once) for own in self._sets]
        self._intervals = round(horizon_s / interval_s)
        phase = np.arange(self._intervals) >= max(1, round(first_s / interval_s))
        self._levels = np.where(phase[:, None], plans.later[:, None], plans.first[:, None])
        self._clocks_mhz = _clock_limits(contexts)
        self._caps_w = np.array([context.grid.power_caps_w for context in contexts])
        self._seqs = np.array([context.grid.max_num_seqs for context in contexts], dtype=float)
        self._scopes = PowerScopes(contexts)
        self._request_tokens = np.array([spec.workload.mean_output_tokens for spec in specs])
        self._warmup_s = np.array([context.qos.warmup_s for context in contexts])
        self._tolerance = np.array([context.qos.tolerance for context in contexts])
        window = self._baseline.past_tokens.shape[1]
        self._past = np.zeros((env.num_envs, window))
        self._past_busy_s = np.zeros((env.num_envs, window))
        self._step = 0

    def begin(self, seeds: Sequence[int]) -> None:
        """Follows the episodes that the environment has begun with these seeds."""
        self._baseline.begin(seeds)
        self._past[:] = 0.0
        self._past_busy_s[:] = 0.0
        self._step = 0

    def follow(self, demanded: Conditions, telemetry: Telemetry) -> FloatArray:
        """Takes an interval that has passed into account.

        Args:
            demanded: What was demanded in it.
            telemetry: What the servers delivered.

        Returns:
            1 for each server that was in violation against a Baseline within the budget, NaN
            where that is not evaluated, shape ``(servers,)``.
        """
        self._baseline.advance(self._highest_w(demanded.power_budget_w)[1])
        busy_s = np.asarray(telemetry.running) * self._interval_s
        for past, latest in (self._past, telemetry.output_tokens), (self._past_busy_s, busy_s):
            past[:, :-1] = past[:, 1:]
            past[:, -1] = latest
        begins_s = self._step * self._interval_s
        self._step += 1
        seen_s = min(self._step, self._past.shape[1]) * self._interval_s
        goal = np.minimum(demanded.target_tok_s, self._baseline.past_tokens.sum(axis=1) / seen_s)
        own = self._past.sum(axis=1) / seen_s
        violated = (own < (1.0 - self._tolerance) * goal).astype(np.float64)
        evaluated = (begins_s > self._warmup_s - 1e-6) & (demanded.target_tok_s > 0)
        return np.asarray(np.where(evaluated, violated, np.nan))

    def lesson(
        self, which: IntArray, coming: Conditions, last: FloatArray, kv_usage: FloatArray
    ) -> Lesson:
        """Tries all plans on some servers.

        A lower batch limit is ruled out where neither a TPOT SLO nor a full KV cache asks for it.
        It leaves prompts waiting, so that more output comes within the horizon, and the violations
        that it seems to spare come later: where a server is behind, that is done again and again.

        Args:
            which: Their indices, as many as it looks at in one call.
            coming: What is demanded of every server from now on.
            last: Cap in watts, batch limit and clock limit in MHz (``inf`` where it is free) that
                were requested last, shape ``(servers, 3)``.
            kv_usage: Fraction of each server's KV blocks in use, shape ``(servers,)``.
        """
        limit_level, highest_w = self._highest_w(coming.power_budget_w)
        beside = self._baseline.ahead(which, highest_w[which], self._intervals)
        asked_for = np.isfinite(coming.tpot_slo_s[which]) | (kv_usage[which] > _FULL)
        lesson = Lesson(*np.zeros((3, len(which), len(self._levels))))
        lesson.base[:] = _RULED_OUT
        for number, places in enumerate([np.arange(len(which)), np.flatnonzero(asked_for)]):
            plans = self._sets[number]
            if not len(places) or not len(plans):
                continue
            own = which[places]
            knobs = self._knobs(own, limit_level, plans)
            tried = self._tried(
                self._forks[number], own, coming, knobs, Spending(*(a[places] for a in beside))
            )
            for column, found in zip(lesson, (*tried, _changes(knobs, last[own])), strict=True):
                column[np.ix_(places, plans)] = found
        return lesson

    def _tried(
        self,
        forks: Forks,
        which: IntArray,
        coming: Conditions,
        knobs: FloatArray,
        beside: Spending,
    ) -> tuple[FloatArray, FloatArray]:
        """Tries plans on some servers; returns their cost, and what they violate."""
        forks.fork(self._intervals * self._interval_s, which=which)
        ttft_s = np.minimum(coming.ttft_slo_s[which], self._cost.patience_s)
        forks.set_slos(np.repeat(ttft_s, forks.copies), np.inf)
        seen = forks.run(knobs, self._interval_s, COLUMNS)
        cost = self._cost
        token_j = beside.joule_per_token[:, None]
        work = (seen[..., OUTPUT] + cost.prompt_weight * seen[..., PROMPT]).sum(axis=-1)
        late_j = self._late(which, coming, seen) * token_j * self._request_tokens[which, None]
        energy_j = seen[..., ENERGY].sum(axis=-1)
        interval_j = beside.power_w[:, None] * self._interval_s
        base = (energy_j - cost.work_value * token_j * work + late_j) / interval_j
        return base, self._violations(which, coming, seen[..., OUTPUT], beside.tokens)

    def _late(self, which: IntArray, coming: Conditions, seen: FloatArray) -> FloatArray:
        """Returns the price of late requests, in Baseline's energy for a request."""
        asked = np.isfinite(coming.ttft_slo_s[which])
        price = np.where(asked, self._slo_price, self._cost.late_price)[:, None]
        first = price * (seen[..., MISSED].sum(axis=-1) + seen[..., -1, OVERDUE])
        slow = np.zeros(seen.shape[:2])
        held = np.flatnonzero(np.isfinite(coming.tpot_slo_s[which]))
        if len(held):
            own = which[held]
            slow[held] = self.slow_tokens(own, coming.tpot_slo_s[own], seen[held])
        return np.asarray(first + self._slo_price * slow / self._request_tokens[which, None])

    def slow_tokens(self, which: IntArray, tpot_slo_s: FloatArray, seen: FloatArray) -> FloatArray:
        """Returns how many tokens come too slowly for a TPOT SLO, shape ``(servers, plans)``.

        A request's TPOT is a mean over its life. So an interval that a long prompt makes slow
        counts as far as the mean leaves nothing to spare, over the time, some of it past, in which
        a request that just keeps the SLO is served.

        Args:
            which: The servers.
            tpot_slo_s: Their TPOT SLO in seconds.
            seen: What plans bring about, shape ``(servers, plans, intervals, columns)``.
        """
        tokens, busy_s = seen[..., OUTPUT], seen[..., RUNNING] * self._interval_s
        longest = self._past.shape[1]
        life_s = tpot_slo_s * self._request_tokens[which]
        window = np.clip(np.round(life_s / self._interval_s), 1, longest).astype(np.int64)
        end = longest + np.arange(1, self._intervals + 1)
        begin = end - window[:, None]

        def within(past: FloatArray, planned: FloatArray) -> FloatArray:
            earlier = np.broadcast_to(past[which, None], (*planned.shape[:2], longest))
            sums = np.concatenate([earlier, planned], axis=-1).cumsum(axis=-1)
            sums = np.concatenate([np.zeros((*planned.shape[:2], 1)), sums], axis=-1)
            index = np.broadcast_to(begin[:, None], planned.shape)
            return np.asarray(sums[..., end] - np.take_along_axis(sums, index, axis=-1))

        slo_s = tpot_slo_s[:, None, None]
        mean_s = within(self._past_busy_s, busy_s) / np.maximum(within(self._past, tokens), 1.0)
        counts = np.clip((mean_s / slo_s - _SPARE) / (_NO_SPARE - _SPARE), 0.0, 1.0)
        slow = busy_s > _SLOW * slo_s * np.maximum(tokens, 1.0)
        return np.asarray((counts * slow * tokens).sum(axis=-1))

    def _highest_w(self, budget_w: Any) -> tuple[IntArray, FloatArray]:
        """Returns the highest level of each grid within the budget, and its cap in watts."""
        limit_w = self._scopes.cap_limit_w(np.asarray(budget_w)) * (1.0 + _ROUNDING)
        level = np.maximum((self._caps_w <= limit_w[:, None]).sum(axis=1) - 1, 0)
        return level, self._caps_w[np.arange(len(level)), level]

    def _knobs(self, which: IntArray, limit_level: IntArray, plans: IntArray) -> FloatArray:
        """Returns the knobs of some plans within the budget, ``(servers, plans, intervals, 3)``."""
        levels = self._levels[plans]
        cap_level = np.minimum(levels[None, ..., 0], limit_level[which, None, None])
        server = which[:, None, None]
        knobs = np.full((*cap_level.shape, 3), np.inf)
        knobs[..., 0] = self._caps_w[server, cap_level]
        knobs[..., 1] = self._seqs[server, levels[None, ..., 1]]
        if levels.shape[-1] > 2:
            knobs[..., 2] = self._clocks_mhz[server, levels[None, ..., 2]]
        return knobs

    def _violations(
        self, which: IntArray, coming: Conditions, tokens: FloatArray, baseline: FloatArray
    ) -> FloatArray:
        steps = self._step + np.arange(1, self._intervals + 1)
        seen_s = np.minimum(steps, self._past.shape[1]) * self._interval_s
        delivered = windowed(baseline[:, None], self._baseline.past_tokens[which, 1:])
        goal = np.minimum(coming.target_tok_s[which, None, None], delivered / seen_s)
        begins_s = (steps - 1) * self._interval_s
        goal = goal * (begins_s > self._warmup_s[which, None, None] - 1e-6)
        throughput = windowed(tokens, self._past[which, 1:]) / seen_s
        allowed = 1.0 - self._tolerance[which, None, None] + self._cost.strictness
        shortfall = np.clip(1.0 - throughput / np.maximum(goal, 1e-9), 0.0, 1.0)
        short = throughput < allowed * goal
        return np.asarray((short * (1.0 + self._cost.severity * shortfall)).sum(axis=-1))


def _clock_limits(contexts: Sequence[ControlContext]) -> FloatArray:
    """Returns each server's clock limits in MHz, the last one free; empty where none is a knob."""
    limits_mhz = np.array([context.grid.sm_clocks_mhz for context in contexts], dtype=float)
    limits_mhz[:, -1:] = np.inf
    return limits_mhz


def _changes(knobs: FloatArray, last: FloatArray) -> FloatArray:
    """Returns how often plans move the knobs, from those that are set now on."""
    now = np.broadcast_to(last[:, None, None], (*knobs.shape[:2], 1, 3))
    held = np.minimum(np.concatenate([now, knobs], axis=2), _FREE_MHZ)
    moved = np.abs(held[:, :, 1:] - held[:, :, :-1]) > 0.01
    return np.asarray(moved.any(axis=-1).sum(axis=-1), dtype=np.float64)
