"""The planner that knows the future: an upper bound on what control can reach, not a rival."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from baselines.base import Controller, Preparation
from baselines.twin.beside import BaselineBeside, fleet_of
from baselines.twin.cost import Cost, Outlook
from baselines.twin.future import Future
from baselines.twin.planner import Decision, Planner, Problem
from baselines.twin.search import Search
from baselines.twin.unforeseen import UnforeseenArrivals
from baselines.twin.worth import OwnEnergy
from envs.compiled.window import window_length
from envs.context import ControlContext
from envs.errors import ConfigurationError, PalsError
from envs.fields import Checked, Range
from envs.knobs import Knobs
from envs.objectives.conditions import Conditions
from envs.observations import Observation
from envs.quantities import Seconds, Seed
from envs.telemetry import COLUMN


class LostServer(PalsError):
    """The server does not do what its copy does, so that the copy cannot be planned with."""


@dataclass(kw_only=True)
class Clairvoyant(Checked, Controller):
    """Model-predictive control on forks of the very server, with its true future.

    It looks ahead: arrivals, lengths, targets and budgets of the whole episode are known, and so
    is the state of the server. Every ``replan_s`` it tries plans over ``horizon_s`` and follows
    the cheapest one. What other controllers reach is a fraction of what this one does.

    With ``arrival_samples`` it knows the state of the server, the lengths of the requests in it
    and what is demanded, but not who will come: what lies between this one and itself with the
    true future is what arrivals are worth that nobody can know.

    Attributes:
        arrival_samples: Samples of the requests to come that take the place of the true ones,
            drawn from what has come; 0 for the true ones.
        horizon_s: How far it plans, in seconds.
        replan_s: Time after which it plans again, in seconds.
        search: How plans are searched for.
        cost: What they cost.
        seed: Seed of the search's draws.
    """

    config_key: ClassVar[str] = "controller"

    arrival_samples: Annotated[int, Range(least=0, most=1024)] = 0
    horizon_s: Seconds = 20.0
    replan_s: Seconds = 1.0
    search: Search = field(default_factory=lambda: Search(phases=4, generations=6))
    cost: Cost = field(default_factory=Cost)
    seed: Seed = 0

    @override
    def bind(self, context: ControlContext) -> None:
        self.context = context
        self._futures: list[Future] = []

    @override
    def prepare(self, preparation: Preparation) -> None:
        """Asks for the future of every episode that it is to run; before each of them."""
        self._futures = preparation.futures()

    @override
    def predict(
        self,
        observation: NDArray[np.floating[Any]],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """Returns actions; the state is changed in place, so that an old one cannot be reused.

        Raises:
            ConfigurationError: It was not prepared, or for other episodes.
            LostServer: The server does not do what its copy does.
        """
        batch = np.atleast_2d(np.asarray(observation))
        begins = state is None or (episode_start is not None and bool(np.all(episode_start)))
        if begins:
            state = self._begin(len(batch))
        observed = self.context.layout.decode(batch)
        knobs = state.decide(observed)
        encoding = self.context.encoding
        current = observed.last_knobs
        actions = np.asarray(encoding.encode(knobs, current))
        state.asked = encoding.decode(actions, current)
        return (actions if np.ndim(observation) == 2 else actions[0]), state

    def _begin(self, servers: int) -> _Episodes:
        if not self._futures:
            raise ConfigurationError("controller: prepare() must be called before predict()")
        if len(self._futures) != servers:
            raise ConfigurationError(
                f"controller: it was prepared for {len(self._futures)} episodes and is asked about "
                f"{servers}; prepare() it for each batch"
            )
        return _Episodes(self, self._futures)


class _Episodes:
    """Some episodes under way: their servers' copies, and the plans that are followed.

    Args:
        settings: How to plan.
        futures: The episodes.

    Attributes:
        asked: Knobs of the last action, as the environment takes them.
        decision: The plans that are followed.
    """

    def __init__(self, settings: Clairvoyant, futures: list[Future]) -> None:
        context = settings.context
        self._context, self._settings = context, settings
        interval_s = context.interval_s
        self._horizon = max(1, round(settings.horizon_s / interval_s))
        self._replan = max(1, round(settings.replan_s / interval_s))
        self._fleet = fleet_of(futures)
        self._planner = Planner(
            context, self._fleet, max(1, settings.arrival_samples), self._horizon,
            settings.search, settings.cost, shared_state=settings.arrival_samples > 0,
        )  # fmt: skip
        space = self._planner.space
        self._beside = BaselineBeside(context, space, futures, settings.cost.prompt_weight)
        self._unforeseen: UnforeseenArrivals | None = None
        if settings.arrival_samples:
            self._unforeseen = UnforeseenArrivals(
                context, futures, self._beside.caps_w, settings.arrival_samples, settings.seed
            )
        servers = len(futures)
        self._all = np.arange(servers)
        self._window = window_length(context.qos.window_s, interval_s)
        self._past = np.zeros((servers, self._window - 1))
        self._own = OwnEnergy(servers, context.qos.window_s)
        self._plans = np.full((servers, space.phases), space.caps - 1)
        self.decision: Decision | None = None
        self._interval = 0
        self._rng = np.random.default_rng(settings.seed)
        self.asked: Knobs | None = None

    def decide(self, observed: Observation) -> Knobs:
        """Returns each server's knobs for the coming interval."""
        if self.asked is not None:
            self._follow(observed)
        since = self._interval % self._replan
        if since == 0 or self.decision is None:
            self.decision = self._planner.decide(self._problem(observed), self._plans, self._rng)
            self._plans, since = self.decision.plans, 0
        cap_w, seqs, clock_mhz = self.decision.knobs[:, since].T
        return Knobs(cap_w, seqs, clock_mhz if self._context.grid.sm_clocks_mhz else None)

    def _follow(self, observed: Observation) -> None:
        """Lets the copies do what the servers have done.

        Raises:
            LostServer: They came to something else.
        """
        assert self.asked is not None
        cap_w = np.asarray(self.asked.power_cap_w, dtype=np.float64)
        lowered = np.abs(observed.last_power_cap_w - cap_w) > 0.01  # by a cluster's ceiling
        cap_w = np.where(lowered, observed.last_power_cap_w, cap_w)
        self._fleet.apply(self.asked._replace(power_cap_w=cap_w))
        telemetry = self._fleet.advance(self._context.interval_s, self._all)
        apart = np.abs(telemetry[:, COLUMN.running] - observed.running) > 0.5
        if apart.any():
            raise LostServer(
                "controller: the server does not do what its copy does; a clairvoyant controls "
                "simulated servers from the beginning of an episode, with the seed it was "
                "prepared for"
            )
        self._past = np.concatenate([self._past, telemetry[:, [COLUMN.output_tokens]]], axis=1)
        self._past = self._past[:, 1:]
        output, prompt = telemetry[:, COLUMN.output_tokens], telemetry[:, COLUMN.prompt_tokens]
        work = output + self._settings.cost.prompt_weight * prompt
        self._own.note(telemetry[:, COLUMN.energy_gpu_j], work)
        if self._unforeseen is not None:
            self._unforeseen.follow(observed, self._interval)
        self._interval += 1

    def _problem(self, observed: Observation) -> Problem:
        beside, context, interval_s = self._beside, self._context, self._context.interval_s
        total = beside.conditions.shape[1]
        first = min(self._interval, total - 1)
        ahead = np.arange(first, min(first + self._horizon, total))
        coming = Conditions(*np.moveaxis(beside.conditions[:, ahead], -1, 0))
        budget_w = np.array(coming.power_budget_w)
        # What a cluster's scheduler has set stays, as far as anyone knows.
        set_w = observed.power_budget_w
        reset = ~np.isclose(budget_w[:, 0], set_w, rtol=1e-3)
        budget_w = np.where(reset[:, None], set_w[:, None], budget_w)
        seen_s = interval_s * np.minimum(ahead + 1, self._window)
        servers = len(self._all)
        seen_s = np.broadcast_to(seen_s, (servers, len(ahead)))
        goal_tok_s, requests = beside.goal_tok_s[:, None, ahead], None
        if self._unforeseen is not None:
            requests, tokens = self._unforeseen.draw(first, len(ahead))
            delivered = tokens / seen_s[:, None]
            goal_tok_s = np.minimum(beside.target_tok_s[:, None, ahead], delivered)
        knobs_now = np.full((servers, 3), np.inf)
        asked = context.highest if self.asked is None else self.asked
        knobs_now[:, 0], knobs_now[:, 1] = asked.power_cap_w, asked.max_num_seqs
        if asked.sm_clock_mhz is not None:
            knobs_now[:, 2] = asked.sm_clock_mhz
        return Problem(
            cap_limit_w=np.asarray(context.cap_limit_w(budget_w)),
            ttft_slo_s=self._settings.cost.ttft_limit_s(coming.ttft_slo_s[:, 0]),
            tpot_slo_s=np.asarray(coming.tpot_slo_s[:, 0]),
            outlook=Outlook(
                goal_tok_s=goal_tok_s,
                past_tokens=self._past,
                seen_s=seen_s,
                interval_s=interval_s,
                knobs_now=knobs_now,
                token_j=self._own.joule_per_token(beside.yardstick),
            ),
            yardstick=beside.yardstick,
            violation_price=np.ones(servers),
            coming=requests,
        )
