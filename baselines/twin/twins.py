"""The twins of some servers under way: estimates, predictions, plans, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from baselines.twin.closed_reference import ClosedLoopBaselineTwin
from baselines.twin.cost import OUTPUT, SENSOR, Outlook, Yardstick, windowed
from baselines.twin.estimate import Estimate, single
from baselines.twin.hypotheses import Hypotheses
from baselines.twin.lengths import expected_lengths
from baselines.twin.planner import Decision, Planner, Problem
from baselines.twin.plans import FloatArray
from baselines.twin.reference import BaselineTwin
from baselines.twin.worth import OwnEnergy
from envs.context import ControlContext
from envs.knobs import Knobs
from envs.observations import Observation
from envs.simulator.fleet import Fleet
from envs.simulator.server_spec import ServerSpec
from envs.workloads.base import RequestChunk

if TYPE_CHECKING:
    from baselines.twin.mpc import Mpc

_PRIOR_S = 30.0
"""Time for which Baseline's rating counts before it was seen at work."""


class Twins:
    """The twins of some servers of one kind.

    Args:
        settings: How to estimate and plan.
        context: What is known about the servers.
        spec: A simulated server like them.
        servers: How many there are.

    Attributes:
        fleet: The simulated servers that are planned on: the samples of the first, and so on.
        estimates: What is believed about each of them.
        decision: The plans that are followed.
    """

    def __init__(
        self, settings: Mpc, context: ControlContext, spec: ServerSpec, servers: int
    ) -> None:
        self._settings, self._context, self._spec = settings, context, spec
        interval_s = context.interval_s
        self._expected = expected_lengths(spec.workload)
        self._horizon = max(1, round(settings.horizon_s / interval_s))
        self._replan = max(1, round(settings.replan_s / interval_s))
        samples = settings.samples
        self._closed_loop = spec.workload.concurrency is not None
        self.fleet = fleet = Fleet([spec] * (servers * samples), latency=False, chunk=64)
        highest = Fleet([spec] * (servers * samples), latency=False, chunk=64)
        self._models = [
            fleet.own_model(range(i * samples, (i + 1) * samples)) for i in range(servers)
        ]
        for index, model in enumerate(self._models):
            for row in range(index * samples, (index + 1) * samples):
                highest.use_model(row, model)
        self._hypotheses, ahead = (
            Hypotheses(rows, samples, closed_loop=self._closed_loop) for rows in (fleet, highest)
        )
        self._planner = Planner(
            context, fleet, samples, self._horizon, settings.search, settings.cost
        )
        self._space = self._planner.space
        kind = ClosedLoopBaselineTwin if self._closed_loop else BaselineTwin
        self.baseline = kind(context, ahead, servers, settings.cost.prompt_weight)
        engine = spec.spec
        self._kv_tokens = float(engine.kv_blocks * engine.replicas * engine.block_size)
        self.estimates: list[Estimate] = [self._new(index) for index in range(servers)]
        self._past = np.zeros_like(self.baseline.past_tokens)
        self._own = OwnEnergy(servers, _PRIOR_S)
        self._step = np.zeros(servers, dtype=np.int64)
        self._plans = np.full((servers, self._space.phases), self._space.caps - 1)
        self.decision: Decision | None = None
        self._since = 0
        self._rng = np.random.default_rng(settings.seed)
        self._overruns = self._decisions = 0

    def _new(self, index: int) -> Estimate:
        settings = self._settings
        return Estimate(
            self._context, self._expected, settings.samples, settings.correction, settings.limit,
            settings.violation_limit, np.random.default_rng([settings.seed, index]),
        )  # fmt: skip

    def decide(
        self, observed: Observation, started: np.ndarray, clock: Callable[[], float]
    ) -> Knobs:
        """Returns each server's knobs for the coming interval.

        Args:
            observed: What was observed, shape ``(servers,)`` a field.
            started: Whose episode has just begun.
            clock: Time in seconds, to measure how long a decision takes.
        """
        begin_s = clock()
        for index in np.flatnonzero(started).tolist():
            self._begin(index)
        if not started.all():
            self._follow(observed, started)
        if self.decision is None or self._since >= self._replan or started.any():
            decision = self._planned(observed)
            limit_s = self._settings.time_limit_s
            self._decisions += 1
            if limit_s is not None and clock() - begin_s > limit_s and self.decision is not None:
                self._overruns += 1
            else:
                self.decision, self._plans, self._since = decision, decision.plans, 0
        place = min(self._since, self.decision.knobs.shape[1] - 1)
        cap_w, seqs, clock_mhz = self.decision.knobs[:, place].T
        self._since += 1
        # A plan that is followed for longer than it was meant must keep the budget of now.
        cap_w = np.minimum(cap_w, self._highest_caps_w(observed))
        return Knobs(cap_w, seqs, clock_mhz if self._context.grid.sm_clocks_mhz else None)

    def _begin(self, index: int) -> None:
        self.estimates[index] = self._new(index)
        self.baseline.begin(index)
        self._own.begin(index)
        self._past[index] = 0.0
        self._step[index] = 0
        self._plans[index] = self._space.caps - 1

    def _highest_caps_w(self, observed: Observation) -> FloatArray:
        return self._space.highest_caps_w(
            np.asarray(self._context.cap_limit_w(observed.power_budget_w), dtype=np.float64)
        )

    def _follow(self, observed: Observation, started: np.ndarray) -> None:
        """Takes the interval that has passed into account."""
        interval_s = self._context.interval_s
        for index, estimate in enumerate(self.estimates):
            if started[index]:
                continue
            own = single(observed, index)
            estimate.follow(own)
            self._compare(index, own)
        tokens = np.where(started, 0.0, observed.output_tok_s * interval_s)
        self._past = np.concatenate([self._past[:, 1:], tokens[:, None]], axis=1)
        prompts = self._settings.cost.prompt_weight * observed.prompt_tok_s * interval_s
        self._own.note(
            np.where(started, 0.0, observed.power_w * interval_s),
            np.where(started, 0.0, tokens + prompts),
        )
        if self.decision is not None:
            self.baseline.advance(
                self._highest_caps_w(observed),
                self.estimates,
                observed,
                tokens,
                self.decision.observed,
            )
        self._step += ~started
        delivered = self.baseline.past_tokens.sum(axis=1)
        for index in np.flatnonzero(~started).tolist():
            behind = self._past[index].sum() / max(float(delivered[index]), 1.0)
            self.estimates[index].evaluate(single(observed, index), behind)

    def _compare(self, index: int, observed: Observation) -> None:
        """Corrects the model by what it had predicted for the interval that has passed."""
        if self.decision is None or self._since > self.decision.observed.shape[1]:
            return
        interval_s = self._context.interval_s
        predicted = self.decision.observed[index, self._since - 1]
        tokens = predicted[OUTPUT], observed.output_tok_s * interval_s
        if self._since == 1 < self._replan:
            return  # the step that was under way was not known, and is missing here
        correction = self.estimates[index].correction
        correction.note(tokens, (predicted[SENSOR], observed.power_w), interval_s)

    def _planned(self, observed: Observation) -> Decision:
        """Writes what is believed into the twins, and plans on them."""
        context, settings = self._context, self._settings
        horizon_s = self._horizon * context.interval_s
        futures: list[list[RequestChunk]] = []
        nominal = self._spec.spec.step_model
        for index, estimate in enumerate(self.estimates):
            own = single(observed, index)
            estimate.correction.apply(nominal, self._models[index][0])
            future = estimate.future(horizon_s, self._closed_loop)
            self._hypotheses.write(
                index, estimate.ledger, estimate.outputs, own, estimate.now_s, self._kv_tokens,
                future,
            )  # fmt: skip
            futures.append(future)
        cap_limit_w = np.asarray(context.cap_limit_w(observed.power_budget_w), dtype=np.float64)
        joule_per_token, power_w = self._spent()
        yardstick = Yardstick(
            joule_per_token, power_w, np.array([item.outputs.mean for item in self.estimates])
        )
        factors = np.array([item.price.factor for item in self.estimates])
        problem = Problem(
            cap_limit_w=np.repeat(cap_limit_w[:, None], self._horizon, axis=1),
            ttft_slo_s=settings.cost.ttft_limit_s(observed.ttft_slo_s),
            tpot_slo_s=np.asarray(observed.tpot_slo_s),
            outlook=self._outlook(observed, futures, self._own.joule_per_token(yardstick)),
            yardstick=yardstick,
            violation_price=factors,
            late_allowed=settings.slo_risk,
            lowest=self._space.lowest(factors / settings.limit.lowest),
        )
        return self._planner.decide(problem, self._plans, self._rng)

    def _spent(self) -> tuple[FloatArray, FloatArray]:
        """Returns Baseline's energy a token and its mean power."""
        spec, weight = self._spec, self._settings.cost.prompt_weight
        workload = spec.workload
        prompts = weight * workload.mean_prompt_tokens / workload.mean_output_tokens
        load = min(1.0, self._context.offered_tok_s / self._context.capacity_tok_s)
        token_j = spec.rated_power_w / (self._context.capacity_tok_s * (1.0 + prompts))
        # Below saturation Baseline draws nearly as much for fewer tokens.
        return self.baseline.spent(token_j / max(load, 0.1), spec.rated_power_w, _PRIOR_S)

    def _outlook(
        self,
        observed: Observation,
        futures: Sequence[Sequence[RequestChunk]],
        token_j: FloatArray,
    ) -> Outlook:
        context, qos = self._context, self._context.qos
        interval_s = context.interval_s
        beyond, ahead = self.baseline.ahead(
            self._highest_caps_w(observed), self._horizon, self.estimates, observed, futures
        )
        steps = self._step[:, None] + np.arange(1, self._horizon + 1)
        window = self._past.shape[1]
        seen_s = interval_s * np.minimum(steps, window)
        tokens = windowed(ahead, self.baseline.past_tokens[:, 1:])
        tokens += beyond[..., None] * (np.arange(1, self._horizon + 1) < self._past.shape[1])
        delivered = tokens / seen_s[:, None]
        goal = np.minimum(observed.target_tok_s[:, None, None], delivered)
        warm = qos.evaluates((steps - 1) * interval_s)
        knobs_now = np.stack(observed.last_knobs, axis=1)
        free = knobs_now[:, 2] >= context.limits.sm_clock_max_mhz * (1.0 - 1e-4)
        knobs_now[:, 2] = np.where(free, np.inf, knobs_now[:, 2])
        return Outlook(
            goal_tok_s=goal * warm[:, None],
            past_tokens=self._past[:, 1:],
            seen_s=seen_s,
            interval_s=interval_s,
            knobs_now=self._on_grid(knobs_now),
            token_j=token_j,
        )

    def _on_grid(self, knobs: FloatArray) -> FloatArray:
        """Returns knobs that were read from a float32 observation as the grid has them."""
        choices = self._space.choices
        for column in range(3):
            levels = np.unique(choices[:, column])
            finite = np.where(np.isfinite(levels), levels, 1e12)
            own = np.where(np.isfinite(knobs[:, column]), knobs[:, column], 1e12)
            knobs[:, column] = levels[np.abs(finite - own[:, None]).argmin(axis=1)]
        return knobs

    def report(self) -> dict[str, float]:
        """Returns what the episode has told, as means over servers.

        Plans made and those that came too late (``overruns``); the factors on step time, power and
        lengths that the twins have arrived at; and the factor on the price of violations.
        """
        estimates = self.estimates

        def mean(values: list[float]) -> float:
            return float(np.mean(values))

        return {
            "decisions": float(self._decisions),
            "overruns": float(self._overruns),
            "time_factor": mean([float(np.exp(item.correction.log_time)) for item in estimates]),
            "power_factor": mean([float(np.exp(item.correction.log_power)) for item in estimates]),
            "output_length_factor": mean([item.outputs.scale for item in estimates]),
            "prompt_length_factor": mean([item.prompts.scale for item in estimates]),
            "violation_price_factor": mean([item.price.factor for item in estimates]),
        }
