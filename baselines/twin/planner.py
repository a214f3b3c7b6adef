"""One decision: tries plans on forks of servers and keeps the cheapest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from baselines.twin.cost import COLUMNS, Cost, Outlook, Yardstick
from baselines.twin.plans import FloatArray, IntArray, PlanSpace
from baselines.twin.search import PlanSearch, Search
from envs.context import ControlContext
from envs.simulator.fleet import Fleet
from envs.simulator.forks import Forks
from envs.workloads.base import RequestChunk


class Problem(NamedTuple):
    """What a decision is made about, for some servers at once.

    Attributes:
        cap_limit_w: Highest cap that the budget allows, shape ``(servers, intervals)``.
        ttft_slo_s: Latest first token, shape ``(servers,)``.
        tpot_slo_s: Longest time per output token, shape ``(servers,)``.
        outlook: What throughput is measured against.
        yardstick: What Baseline spends.
        violation_price: Factor on the price of violations, shape ``(servers,)``.
        late_allowed: Fraction of requests that may be late at no price.
        lowest: Lowest knobs that plans may choose, shape ``(servers, 3)``; ``None``: any.
        coming: Requests to come in each sample of each server, in place of those that the fleet's
            servers know of; ``None``: the servers are samples, and each knows its own.
    """

    cap_limit_w: FloatArray
    ttft_slo_s: FloatArray
    tpot_slo_s: FloatArray
    outlook: Outlook
    yardstick: Yardstick
    violation_price: FloatArray
    late_allowed: float = 0.0
    lowest: FloatArray | None = None
    coming: Sequence[RequestChunk] | None = None


class Decision(NamedTuple):
    """The plan that was chosen for each server.

    Attributes:
        plans: Choices by phase, shape ``(servers, phases)``.
        knobs: Its knobs in every interval, shape ``(servers, intervals, 3)``.
        observed: What it is expected to bring about, a mean over samples, shape ``(servers,
            intervals, len(COLUMNS))``.
        cost: Its cost in joules, shape ``(servers,)``.
    """

    plans: IntArray
    knobs: FloatArray
    observed: FloatArray
    cost: FloatArray


class Planner:
    """Plans for the servers of a fleet; several of them may be samples of one real server.

    Args:
        context: What is known about the server.
        fleet: The servers: ``samples`` in a row for each real one; or one for each, whose copies
            get the requests of every sample (:attr:`Problem.coming`).
        samples: Samples of each real server.
        intervals: Control intervals of the horizon.
        search: How plans are searched for.
        cost: What they cost.
        shared_state: Whether all samples of a server begin in the state of the fleet's one.
    """

    def __init__(
        self,
        context: ControlContext,
        fleet: Fleet,
        samples: int,
        intervals: int,
        search: Search,
        cost: Cost,
        shared_state: bool = False,
    ) -> None:
        self.space = PlanSpace(context.grid, search.batches, intervals, search.phases)
        self._search = PlanSearch(self.space, search)
        self._cost = cost
        self._samples = samples
        self._interval_s = context.interval_s
        self._tolerance = context.qos.tolerance
        each = samples if shared_state else 1
        self._forks = Forks(fleet, search.candidates * each)
        self._one = Forks(fleet, each)

    def decide(self, problem: Problem, current: IntArray, rng: np.random.Generator) -> Decision:
        """Returns the cheapest plan for each server.

        Args:
            problem: What the decision is about.
            current: The plan that is followed now, shape ``(servers, phases)``.
            rng: Source of the search's draws.
        """

        def evaluate(plans: IntArray) -> FloatArray:
            knobs = self.space.knobs(plans, problem.cap_limit_w, problem.lowest)
            return self._cost.of(
                self._tried(self._forks, knobs, problem),
                knobs, problem.outlook, problem.yardstick, self._tolerance,
                problem.violation_price, problem.late_allowed,
            )  # fmt: skip

        plans, cost = self._search.best(evaluate, current, rng)
        knobs = self.space.knobs(plans[:, None], problem.cap_limit_w, problem.lowest)
        observed = self._tried(self._one, knobs, problem)
        return Decision(plans, knobs[:, 0], observed[:, :, 0].mean(axis=1), cost)

    def _tried(self, forks: Forks, knobs: FloatArray, problem: Problem) -> FloatArray:
        """Returns what plans bring about, shape ``(servers, samples, plans, intervals, ...)``."""
        samples = self._samples
        servers, each, intervals, _ = knobs.shape
        if problem.coming is None:
            forks.fork(intervals * self._interval_s)
        else:
            forks.fork(None, [chunk for chunk in problem.coming for _ in range(each)])
        forks.set_slos(
            np.repeat(problem.ttft_slo_s, samples * each),
            np.repeat(problem.tpot_slo_s, samples * each),
        )
        # Copies lie sample by sample, in both cases.
        every = np.repeat(knobs[:, None], samples, axis=1)
        every = every.reshape(-1, forks.copies, intervals, knobs.shape[3])
        observed = forks.run(every, self._interval_s, COLUMNS)
        return observed.reshape(servers, samples, each, intervals, len(COLUMNS))
