"""The protocol of all controllers, and a base class for those that decide in knobs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from baselines.profile import Profile
from envs.context import ControlContext
from envs.errors import ActionError
from envs.fields import Checked
from envs.finite import is_finite
from envs.knobs import Knobs
from envs.observations import Observation

if TYPE_CHECKING:
    from baselines.twin.future import Future
    from envs.simulator.server_spec import ServerSpec


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

    def futures(self) -> list[Future]:
        """Returns what will happen in the coming episode, or in each of those of a batch.

        This looks ahead: for bounds on what is possible only.
        """

    def twin(self) -> ServerSpec:
        """Returns a simulated server like the one to be controlled, as an operator knows it.

        It has the nominal calibration and the lengths of requests that are to be expected. Its
        arrivals, seeds and drawn physics are not those of the episode.
        """


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


@runtime_checkable
class Adjustable(Protocol):
    """A controller some of whose parameters may change while it controls."""

    def adjust(self, asked: Controller, state: Any) -> dict[str, Any]:
        """Takes over the parameters that may change.

        Args:
            asked: A controller of the same kind, with the parameters that are asked for.
            state: The state that :meth:`predict` returned last, or ``None``.

        Returns:
            What changed, the new value by name.
        """


@runtime_checkable
class Reports(Protocol):
    """A controller that has something to tell of an episode, beside what it did."""

    def report(self, state: Any) -> Mapping[str, float]:
        """Returns plain numbers by name, for the record of a run.

        Args:
            state: The state that it returned last; of a batch, of all its servers.
        """


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
    adjustable: ClassVar[frozenset[str]] = frozenset()
    """Parameters that are looked at in every decision, so that they may change between two."""

    context: ControlContext

    @override
    def bind(self, context: ControlContext) -> None:
        self.context = context

    @override
    def prepare(self, preparation: Preparation) -> None:
        """Needs no preparation by default."""

    def adjust(self, asked: Controller, state: Any) -> dict[str, Any]:
        """Takes over :attr:`adjustable` parameters; see :class:`Adjustable`."""
        changed = {
            name: getattr(asked, name)
            for name in sorted(self.adjustable)
            if getattr(asked, name) != getattr(self, name)
        }
        for name, value in changed.items():
            setattr(self, name, value)
        return changed

    @abstractmethod
    def decide(self, observation: Observation, state: Any) -> tuple[Knobs, Any]:
        """Chooses knobs for the coming interval.

        Args:
            observation: What was observed, in SI units.
            state: What this method returned last, or ``None`` at the start of an episode.

        Returns:
            The knobs, and the state to pass to the next call. No other state is kept. Knobs
            between the levels of the action encoding, or beyond them, become the nearest ones.
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
        decided: Any = self.decide(observation, memory.own if memory else None)
        knobs, own = _checked(decided, type(self).__name__)
        action = self.context.encoding.encode(knobs, observation.last_knobs)
        return action, _Memory(own, knobs)


def _checked(decided: Any, name: str) -> tuple[Knobs, Any]:
    """Returns knobs and state, if they are; an encoding would take others to a level nobody chose.

    Raises:
        ActionError: A knob is no number, or not finite (a free clock is).
    """
    pair = isinstance(decided, tuple) and not isinstance(decided, Knobs) and len(decided) == 2
    knobs, own = decided if pair else (decided, None)
    if not (pair and isinstance(knobs, Knobs)):
        raise ActionError(f"{name}.decide: must return Knobs and a state, got {knobs!r}")
    for key, value in knobs._asdict().items():
        if key == "sm_clock_mhz" and (value is None or value == math.inf):
            continue
        if isinstance(value, bool | str) or np.ndim(value) or not is_finite(value):
            raise ActionError(f"{name}.decide: {key} must be a finite number, got {value!r}")
    return knobs, own
