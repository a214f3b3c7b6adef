"""Model-predictive control with a digital twin: a controller that sees what all others see."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from baselines.base import Controller, Preparation
from baselines.twin.correction import CorrectionConfig
from baselines.twin.cost import Cost
from baselines.twin.limit import LimitConfig
from baselines.twin.rehearsal import rehearse
from baselines.twin.search import Search
from baselines.twin.twins import Twins
from envs.context import ControlContext
from envs.errors import ConfigurationError
from envs.fields import Checked, Range
from envs.quantities import Fraction, Seconds, Seed
from envs.simulator.server_spec import ServerSpec


@dataclass(kw_only=True)
class Mpc(Checked, Controller):
    """Plans on simulated copies of the server, in the state that observations let it be in.

    Every ``replan_s`` it writes what it believes about the server into ``samples`` simulated
    ones, tries plans over ``horizon_s`` on all of them with the same draws of the future, and
    follows the plan that is cheapest on average. What it predicted and what was measured then
    correct the model; what was violated moves the price of violations.

    Attributes:
        violation_limit: Rate of QoS violations that the operator allows.
        slo_risk: Fraction of requests that may be late: past their TTFT or TPOT SLO, or the
            cost's patience.
        horizon_s: How far it plans, in seconds.
        replan_s: Time after which it plans again, in seconds.
        samples: Samples of state and future.
        time_limit_s: Longest time a decision may take, in seconds of the wall clock; when it is
            over, the plan before is followed and the overrun counted. ``None`` for no limit,
            which makes runs on the simulator repeatable.
        search: How plans are searched for.
        cost: What they cost.
        correction: How fast the model is corrected.
        limit: How the price of violations is moved.
        seed: Seed of all draws.
    """

    config_key: ClassVar[str] = "controller"
    adjustable: ClassVar[frozenset[str]] = frozenset({"violation_limit"})
    """Parameters that may change between two decisions."""

    violation_limit: Fraction = 0.02
    slo_risk: Fraction = 0.01
    horizon_s: Seconds = 10.0
    replan_s: Seconds = 1.0
    samples: Annotated[int, Range(least=1, most=1024)] = 6
    time_limit_s: Seconds | None = None
    search: Search = field(default_factory=Search)
    cost: Cost = field(default_factory=Cost)
    correction: CorrectionConfig = field(default_factory=CorrectionConfig)
    limit: LimitConfig = field(default_factory=LimitConfig)
    seed: Seed = 0

    @override
    def bind(self, context: ControlContext) -> None:
        self.context = context
        self._spec: ServerSpec | None = None

    @override
    def prepare(self, preparation: Preparation) -> None:
        """Asks for a simulated server like the one to be controlled, and rehearses on it."""
        self._spec = preparation.twin()
        rehearse(self, self.context, self._spec)

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
            ConfigurationError: It was not prepared.
        """
        if self._spec is None:
            raise ConfigurationError("controller: prepare() must be called before predict()")
        batch = np.atleast_2d(np.asarray(observation))
        started = np.zeros(len(batch), dtype=np.bool_)
        if episode_start is not None:
            started = np.broadcast_to(episode_start, len(batch))
        if state is None:
            state = Twins(self, self.context, self._spec, len(batch))
            started = np.ones(len(batch), dtype=np.bool_)
        observed = self.context.layout.decode(batch)
        knobs = state.decide(observed, started, time.perf_counter)
        actions = np.asarray(self.context.encoding.encode(knobs, observed.last_knobs))
        return (actions if np.ndim(observation) == 2 else actions[0]), state

    def adjust(self, asked: Controller, state: Any) -> dict[str, Any]:
        """Takes over another violation limit; see :class:`baselines.base.Adjustable`."""
        if not isinstance(asked, Mpc) or asked.violation_limit == self.violation_limit:
            return {}
        self.violation_limit = asked.violation_limit
        twins: Twins | None = state
        for estimate in [] if twins is None else twins.estimates:
            estimate.price.limit = asked.violation_limit
        return {"violation_limit": asked.violation_limit}

    def report(self, state: Any) -> Mapping[str, float]:
        """Returns what it tells of an episode: see :meth:`baselines.twin.twins.Twins.report`."""
        twins: Twins = state
        return twins.report()
