"""The environment: one LLM server under control, simulated or live."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.actions.base import ActionEncoding
from envs.arguments import expect
from envs.errors import ConfigurationError
from envs.info import Info
from envs.knobs import Knobs
from envs.loop import ControlLoop
from envs.objectives.conditions import Conditions
from envs.objectives.objective import Objective
from envs.objectives.schedule import Planner
from envs.rendering import RENDER_FPS, RENDER_MODES, Picture
from envs.rewards import Reward
from envs.system import Forkable, KeepsTelemetryRow, ServingSystem
from envs.task import ControlTask
from envs.telemetry import COLUMN, NUM_TELEMETRY, Telemetry

MAX_SEED = 2**63 - 1
"""Seeds of a system are drawn below this."""


def episode_seeds(generator: np.random.Generator) -> tuple[int, int]:
    """Draws an episode's seeds: of the server and its requests, and of what is demanded."""
    return int(generator.integers(MAX_SEED)), int(generator.integers(MAX_SEED))


class ServingEnv(gym.Env[NDArray[np.float32], Any]):
    """An LLM server as a Gymnasium environment.

    One step sets the knobs, lets one control interval pass and observes. ``info`` holds the
    raw :class:`~envs.telemetry.Telemetry` under ``telemetry``, the
    :class:`~envs.objectives.conditions.Conditions` of the interval under ``conditions``, the
    requested :class:`~envs.knobs.Knobs` under ``knobs``, each weighted reward term under
    ``rewards``, the constraint signal under ``cost``, the windowed throughput, and the QoS
    violations by the definitions that a live server can evaluate.

    Episodes end by truncation only (``TimeLimit``); a server that dies raises a
    :class:`~envs.errors.ServerError`.

    Args:
        system: The plant.
        objective: What is demanded.
        encoding: How actions become knobs.
        reward: Reward terms.
        interval_s: Length of a control interval in seconds.
        horizon_s: Time over which the objective's signals are laid out; later they repeat.
        power_caps_w: Power caps of the grid when the encoding names none.
        reference: A second system that runs the Baseline strategy on the same arrivals; for
            rewards that count violations relative to it (simulation only).
        render_mode: ``rgb_array`` for frames, ``human`` for a window (a line of text where there is
            no display), or ``None``.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - Gymnasium's own protocol
        "render_modes": list(RENDER_MODES),
        "render_fps": RENDER_FPS,
    }

    def __init__(
        self,
        system: ServingSystem,
        objective: Objective,
        encoding: ActionEncoding,
        reward: Reward,
        *,
        interval_s: float = 0.5,
        horizon_s: float = 600.0,
        power_caps_w: list[float],
        reference: ServingSystem | None = None,
        render_mode: str | None = None,
    ) -> None:
        expect("system", system, ServingSystem)
        expect("reference", reference, ServingSystem, optional=True)
        expect("reward", reward, Reward)
        if reward.qos_definition == "reference" and reference is None:
            raise ConfigurationError(
                "reward.qos_definition: 'reference' needs Baseline on the same arrivals, which "
                "only the simulator can run; use 'backlog' on a live server"
            )
        task = ControlTask(
            system,
            objective,
            encoding,
            interval_s=interval_s,
            horizon_s=horizon_s,
            power_caps_w=power_caps_w,
        )
        self.system = system
        self.objective = objective
        self.encoding = encoding
        self.reward = reward
        self.interval_s = interval_s
        self.intervals = task.intervals
        self.context = task.context
        self.setting = task.setting
        self.planner = task.planner
        self.render_mode = render_mode
        self._picture = None if render_mode is None else Picture(render_mode, task.context)
        self._reference = reference
        self._find_rows()
        self._use(ControlLoop([self.setting], reward, interval_s, self._row, self._reference_row))
        self.observation_space: gym.Space[Any] = task.context.layout.space
        self.action_space = encoding.space
        self.cap_ceiling_w = math.inf
        """Highest power cap per GPU that a cluster allows this server, in watts."""
        self._slos = (math.inf, math.inf)
        self._started = False
        self._requested = system.knob_limits.highest
        self._conditions = Conditions()
        self._coming: list[float] = []
        system.set_warmup(objective.qos.warmup_s)

    def _find_rows(self) -> None:
        """Notes where the servers write their telemetry."""
        system, reference = self.system, self._reference
        self._row = _row_of(system)
        self._keeps_row = system if isinstance(system, KeepsTelemetryRow) else None
        self._reference_row = None if reference is None else _row_of(reference)

    def _use(self, loop: ControlLoop) -> None:
        self._loop, self._observation = loop, loop.observations[0]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: Seed of every random draw; ``None`` continues with the current generator.
            options: Not used.

        Returns:
            The first observation and ``info`` with ``telemetry`` and ``conditions``.
        """
        super().reset(seed=seed)
        self._started = True
        system_seed, demands_seed = episode_seeds(self.np_random)
        telemetry = self.system.reset(system_seed)
        if self._reference is not None:
            self._reference.reset(system_seed)
        if self._keeps_row is None:
            self._row[0] = telemetry[:NUM_TELEMETRY]
        self._loop.reset(0, self.planner.plan(demands_seed))
        self._slos, self._coming = (math.inf, math.inf), []
        self._requested = self.system.knob_limits.highest
        self._take_conditions()
        observation = self._observation.copy()
        if self._picture is not None:
            self._picture.clear()
        return observation, {"telemetry": telemetry, "conditions": self._conditions}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Sets the knobs that ``action`` encodes and lets one interval pass.

        Raises:
            gymnasium.error.ResetNeeded: There was no :meth:`reset` before.
            ServerError: A live server failed; never a stale or made-up observation.
        """
        return self.step_to(self.decode(action))

    def step_to(
        self, knobs: Knobs
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Does what :meth:`step` does, with the knobs that :meth:`decode` gave."""
        if not self._started:
            raise gym.error.ResetNeeded("step: call reset() first, which starts an episode")
        self.system.apply(knobs)
        if self._reference is not None and self._reference_row is not None:
            delivered = self._reference.advance(self.interval_s).output_tokens
            self._reference_row[0, COLUMN.output_tokens] = delivered
        telemetry = self._advance()
        loop, conditions = self._loop, self._conditions
        loop.ask_one(knobs)
        loop.follow()
        free = self.encoding.sm_clock and knobs.sm_clock_mhz is None
        evaluated, terms = loop.evaluate_one(
            knobs._replace(sm_clock_mhz=math.inf) if free else knobs
        )
        self._requested = knobs
        self._take_conditions()
        names = self.reward.terms
        content = partial(_content, telemetry, conditions, knobs, names, terms, evaluated)
        info = Info(content, {"knobs": knobs})
        if self._picture is not None:
            self._picture.add(info["telemetry"], conditions, evaluated[0])
        return self._observation.copy(), evaluated[-1], False, False, info

    def _advance(self) -> Callable[[], Telemetry]:
        """Lets an interval pass; returns what gives its telemetry when that is looked at."""
        system = self._keeps_row
        if system is not None:
            system.run(self.interval_s)
            return system.later()
        telemetry = self.system.advance(self.interval_s)
        self._row[0] = telemetry[:NUM_TELEMETRY]
        return lambda: telemetry

    def decode(self, action: Any) -> Knobs:
        """Returns the knobs that an action would ask for now, as plain numbers.

        Raises:
            ActionError: It is outside the action space.
        """
        knobs = self.encoding.decode_one(action, self._requested)
        if knobs.power_cap_w > self.cap_ceiling_w:
            knobs = knobs._replace(power_cap_w=self.cap_ceiling_w)
        return knobs

    def set_power_budget(self, budget_w: float) -> NDArray[np.float32]:
        """Replaces the power budget of the coming interval, as a cluster's scheduler does.

        Args:
            budget_w: Power in watts over the objective's scope.

        Returns:
            The last observation with the new budget in it.
        """
        self._loop.conditions.power_budget_w[0] = budget_w
        self._take_conditions()
        self._loop.observe(0)
        observation: NDArray[np.float32] = self._observation.copy()
        return observation

    def replace_objective(self, objective: Objective) -> NDArray[np.float32]:
        """Asks something else of the server from the coming interval on.

        Targets, budgets and SLOs are the new ones and begin at their own beginning, with an
        empty QoS window; the server, its knobs and its requests stay as they are. How QoS is
        read stays, too: controllers were bound to it.

        Returns:
            The last observation with the new demands in it.
        """
        facts = (self.system, self.intervals, self.interval_s)
        planner = Planner(objective, *facts)
        plan = planner.plan(int(self.np_random.integers(MAX_SEED)))
        self.objective, self.planner = objective, planner
        self._loop.reset(0, plan)
        self._loop.ask(self._requested)
        self._coming = []
        self._take_conditions()
        self._loop.observe(0)
        observation: NDArray[np.float32] = self._observation.copy()
        return observation

    def clone(self) -> ServingEnv:
        """Returns a copy that goes on exactly as this environment does, and apart from it.

        Requests yet to come, random draws of later episodes, queue, QoS window and conditions
        are those of this one.

        Raises:
            ConfigurationError: The server is live.
        """
        if not isinstance(self.system, Forkable):
            raise ConfigurationError(
                f"server: {type(self.system).__name__} cannot be copied; only simulated servers can"
            )
        reference = self._reference
        own: dict[str, Any] = {
            "system": self.system.fork(),
            "_np_random": deepcopy(self._np_random),
            "_picture": deepcopy(self._picture),
        }
        if isinstance(reference, Forkable):
            own["_reference"] = reference.fork()
        clone = object.__new__(type(self))
        clone.__setstate__({**self.__dict__, **own})
        return clone

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Has a copy find telemetry where its own servers write it."""
        self.__dict__.update(state)
        self._find_rows()
        self._use(self._loop.fork(self._row, self._reference_row))

    def action_masks(self) -> NDArray[np.bool_]:
        """Marks actions whose cap keeps the GPUs within the coming interval's power budget.

        Returns:
            Flat boolean array in the form sb3-contrib's MaskablePPO takes.
        """
        limit = self.context.cap_limit_w(self._conditions.power_budget_w)
        return self.encoding.masks(limit, self._requested)

    def render(self) -> Any:
        """Returns a frame of the last minute with ``render_mode="rgb_array"``, else ``None``.

        With ``render_mode="human"`` every step shows itself. A frame has the shape
        ``(480, 640, 3)`` and needs matplotlib (``pip install 'pals-gym[plot]'``).
        """
        if self._picture is None:
            gym.logger.warn(
                "render() without a render_mode shows nothing: "
                'gymnasium.make(..., render_mode="rgb_array") or "human"'
            )
            return None
        return self._picture.frame()

    def close(self) -> None:
        """Releases the server; a live one gets its knobs back."""
        if self._picture is not None:
            self._picture.close()
        self.system.close()
        if self._reference is not None:
            self._reference.close()

    def _take_conditions(self) -> None:
        coming = self._loop.coming_one
        if coming == self._coming:
            return
        self._coming, self._conditions = coming, Conditions(*coming)
        slos = (self._conditions.ttft_slo_s, self._conditions.tpot_slo_s)
        if slos != self._slos:
            self._slos = slos
            self.system.set_slos(*slos)


def _content(
    telemetry: Callable[[], Telemetry],
    conditions: Conditions,
    knobs: Knobs,
    names: Iterable[str],
    terms: Sequence[float],
    evaluated: Sequence[float],
) -> dict[str, Any]:
    """Returns what ``info`` holds."""
    throughput_tok_s, below, backlog, violation = evaluated[:4]
    return {
        "telemetry": telemetry(),
        "conditions": conditions,
        "knobs": knobs,
        "rewards": dict(zip(names, terms, strict=True)),
        "cost": violation,
        "throughput_tok_s": throughput_tok_s,
        "violation_backlog": backlog,
        "violation_plain": below,
    }


def _row_of(system: ServingSystem) -> NDArray[np.float64]:
    """Returns where a system writes its telemetry, or a place for it; shape ``(1, n)``."""
    if isinstance(system, KeepsTelemetryRow):
        return system.telemetry_row
    return np.zeros((1, NUM_TELEMETRY))
