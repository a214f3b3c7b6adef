"""The environment: one LLM server under control, simulated or live."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.actions.base import ActionEncoding
from envs.errors import ConfigurationError
from envs.knobs import Knobs
from envs.loop import ControlLoop
from envs.objectives.conditions import Conditions
from envs.objectives.objective import Objective
from envs.objectives.schedule import Planner
from envs.rewards import Reward
from envs.system import KeepsTelemetryRow, ServingSystem
from envs.task import ControlTask
from envs.telemetry import COLUMN, NUM_TELEMETRY, Telemetry

MAX_SEED = 2**63 - 1
"""Seeds of a system are drawn below this."""


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
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own protocol

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
    ) -> None:
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
        self._reference = reference
        self._row = _row_of(system)
        self._copies_telemetry = not isinstance(system, KeepsTelemetryRow)
        self._reference_row = None if reference is None else _row_of(reference)
        self._loop = ControlLoop([self.setting], reward, interval_s, self._row, self._reference_row)
        self.observation_space: gym.Space[Any] = task.context.layout.space
        self.action_space = encoding.space
        self.cap_ceiling_w = math.inf
        """Highest power cap per GPU that a cluster allows this server, in watts."""
        self._slos = (math.inf, math.inf)
        self._requested = system.knob_limits.highest
        self._conditions = Conditions()
        system.set_warmup(objective.qos.warmup_s)

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
        system_seed = int(self.np_random.integers(MAX_SEED))
        demands_seed = int(self.np_random.integers(MAX_SEED))
        telemetry = self.system.reset(system_seed)
        if self._reference is not None:
            self._reference.reset(system_seed)
        self._note(telemetry)
        self._loop.reset(0, self.planner.plan(demands_seed))
        self._slos = (math.inf, math.inf)
        self._requested = self.system.knob_limits.highest
        self._take_conditions()
        observation = self._loop.observations[0].copy()
        return observation, {"telemetry": telemetry, "conditions": self._conditions}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Sets the knobs that ``action`` encodes and lets one interval pass.

        Raises:
            ServerError: A live server failed; never a stale or made-up observation.
        """
        knobs = self._decode(action)
        self.system.apply(knobs)
        if self._reference is not None and self._reference_row is not None:
            delivered = self._reference.advance(self.interval_s).output_tokens
            self._reference_row[0, COLUMN.output_tokens] = delivered
        telemetry = self.system.advance(self.interval_s)
        self._note(telemetry)
        loop, conditions = self._loop, self._conditions
        loop.ask(knobs)
        loop.follow()
        free = self.encoding.sm_clock and knobs.sm_clock_mhz is None
        evaluated = loop.evaluate_one(knobs._replace(sm_clock_mhz=math.inf) if free else knobs)
        self._requested = knobs
        self._take_conditions()
        info = {
            "telemetry": telemetry,
            "conditions": conditions,
            "knobs": knobs,
            "rewards": {name: float(term) for name, term in evaluated.terms.items()},
            "cost": float(evaluated.cost),
            "throughput_tok_s": float(evaluated.throughput_tok_s),
            "violation_backlog": float(evaluated.violation_backlog),
            "violation_plain": float(evaluated.violation_plain),
        }
        return loop.observations[0].copy(), float(evaluated.reward), False, False, info

    def _decode(self, action: Any) -> Knobs:
        """Returns the knobs that an action encodes, as plain numbers."""
        knobs = self.encoding.decode(action, self._requested)
        cap_w, clock_mhz = float(knobs.power_cap_w), None
        if knobs.sm_clock_mhz is not None and math.isfinite(knobs.sm_clock_mhz):
            clock_mhz = float(knobs.sm_clock_mhz)
        return Knobs(min(cap_w, self.cap_ceiling_w), int(knobs.max_num_seqs), clock_mhz)

    def _note(self, telemetry: Telemetry) -> None:
        """Writes telemetry where the loop reads it, unless the system has done so."""
        if self._copies_telemetry:
            self._row[0] = telemetry[:NUM_TELEMETRY]

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
        observation: NDArray[np.float32] = self._loop.observations[0].copy()
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
        self._slos = (math.inf, math.inf)
        self._take_conditions()
        self._loop.observe(0)
        observation: NDArray[np.float32] = self._loop.observations[0].copy()
        return observation

    def action_masks(self) -> NDArray[np.bool_]:
        """Marks actions whose cap keeps the GPUs within the coming interval's power budget.

        Returns:
            Flat boolean array in the form sb3-contrib's MaskablePPO takes.
        """
        limit = self.context.cap_limit_w(self._conditions.power_budget_w)
        return self.encoding.masks(limit, self._requested)

    def close(self) -> None:
        """Releases the server; a live one gets its knobs back."""
        self.system.close()
        if self._reference is not None:
            self._reference.close()

    def _take_conditions(self) -> None:
        self._conditions = Conditions(*self._loop.coming[0].tolist())
        slos = (self._conditions.ttft_slo_s, self._conditions.tpot_slo_s)
        if slos != self._slos:
            self._slos = slos
            self.system.set_slos(*slos)


def _row_of(system: ServingSystem) -> NDArray[np.float64]:
    """Returns where a system writes its telemetry, or a place for it; shape ``(1, n)``."""
    if isinstance(system, KeepsTelemetryRow):
        return system.telemetry_row
    return np.zeros((1, NUM_TELEMETRY))
