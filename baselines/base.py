"""The protocol of all controllers, and a base class for those that decide in knobs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from baselines.profile import Profile
from envs.context import ControlContext
from envs.fields import Checked
from envs.knobs import Knobs
from envs.observations import Observation


class Outcome(NamedTuple):
    """What a static choice of knobs achieves on the episode that a controller is about to run.

    Attributes:
        tokens_per_joule: Prompt and output tokens over GPU energy.
        qos_violation_rate: Reference-relative throughput violations, 0 to 1.
        slo_violation_rate: Fraction of requests that missed a latency SLO; 0 when there is none.
        budget_overshoot_rate: Fraction of intervals above the power budget.
    """

    tokens_per_joule: float
    qos_violation_rate: float
    slo_violation_rate: float
    budget_overshoot_rate: float


class Preparation(Protocol):
    """What an experiment provides to a controller before an episode, on request."""

    def profile(self) -> Profile:
        """Returns the offline profile of this server: throughput and power by knobs."""

    def evaluate(self, candidates: list[Knobs]) -> list[Outcome]:
        """Runs each of some fixed knobs on the coming episode. This looks ahead: oracles only."""


class Policy(Protocol):
    """What turns observations into actions (Stable-Baselines3's ``predict`` protocol)."""

    def predict(
        self,
        observation: NDArray[np.floating[Any]],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """Returns an action and the controller's next state.

        Args:
            observation: One observation, or a batch with a leading axis.
            state: State returned by the call before; ``None`` at the start.
            episode_start: For each observation, whether its episode has just begun.
            deterministic: Whether to return the best action rather than a sample.
        """


@runtime_checkable
class Controller(Policy, Protocol):
    """A policy that is bound to the server it controls, and may prepare for an episode."""

    def bind(self, context: ControlContext) -> None:
        """Binds the controller to the server that it is to control."""

    def prepare(self, preparation: Preparation) -> None:
        """Lets the controller request a profile or, if it is an oracle, a look ahead."""


class _Memory(NamedTuple):
    """State between two decisions about one server."""

    own: Any
    knobs: Knobs


class KnobController(Checked, Controller, ABC):
    """A controller that decides on :class:`~envs.knobs.Knobs` from a decoded observation.

    Subclasses implement :meth:`decide`; the action encoding does the rest, so that every
    controller works under every encoding and on batches of observations.
    """

    config_key: ClassVar[str] = "controller"

    context: ControlContext

    @override
    def bind(self, context: ControlContext) -> None:
        self.context = context

    @override
    def prepare(self, preparation: Preparation) -> None:
        """Needs no preparation by default."""

    @abstractmethod
    def decide(self, observation: Observation, state: Any) -> tuple[Knobs, Any]:
        """Chooses knobs for the coming interval.

        Args:
            observation: What was observed, in SI units.
            state: What this method returned last, or ``None`` at the start of an episode.

        Returns:
            The knobs, and the state to pass to the next call. No other state is kept.
        """

    @override
    def predict(
        self,
        observation: NDArray[np.floating[Any]],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        batch = np.asarray(observation)
        if batch.ndim == 1:
            fresh = episode_start is not None and bool(np.any(episode_start))
            return self._predict_one(batch, None if fresh else state)
        memories = [None] * len(batch) if state is None else list(state)
        if episode_start is not None:
            for index in np.flatnonzero(np.broadcast_to(episode_start, len(batch))):
                memories[index] = None
        pairs = [
            self._predict_one(row, memory) for row, memory in zip(batch, memories, strict=True)
        ]
        return np.stack([action for action, _ in pairs]), [memory for _, memory in pairs]

    def _predict_one(self, row: NDArray[Any], memory: _Memory | None) -> tuple[Any, _Memory]:
        observation = self.context.layout.decode(row)
        knobs, own = self.decide(observation, memory.own if memory else None)
        clock = observation.last_sm_clock_mhz
        current = Knobs(observation.last_power_cap_w, observation.last_max_num_seqs, clock)
        return self.context.encoding.encode(knobs, current), _Memory(own, knobs)
