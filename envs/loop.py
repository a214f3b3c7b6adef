"""The arithmetic around a plant: conditions, QoS, reward and observation, for 1 to N servers.

:class:`envs.serving.ServingEnv` uses it with one server and
:class:`envs.simulator.vector.VectorServingEnv` with many, so both observe and reward alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.compiled import control as at
from envs.compiled.rows import Rows, addresses_of_rows
from envs.errors import ConfigurationError
from envs.knobs import KnobLimits, Knobs
from envs.objectives.conditions import Conditions
from envs.objectives.objective import Objective
from envs.objectives.schedule import Schedule
from envs.observations import Observation, ObservationLayout
from envs.rewards import QOS_DEFINITIONS, Reward, Step
from envs.telemetry import MODELLED, Telemetry

FloatArray = NDArray[np.float64]
_ENTRY = Observation(*range(len(Observation._fields)))
_LAST = slice(_ENTRY.last_power_cap_w, _ENTRY.last_sm_clock_mhz + 1)
_PREVIOUS = slice(_ENTRY.previous_power_cap_w, _ENTRY.previous_sm_clock_mhz + 1)


class Evaluation(NamedTuple):
    """What is made of one interval; each field is a number or has shape ``(num_envs,)``.

    Attributes:
        reward: Weighted sum of the reward terms.
        terms: Each weighted term by name.
        conditions: What was demanded during the interval.
        cost: Constraint signal for safe RL: 1 where throughput QoS is violated by the
            reward's definition, 0 elsewhere and during the warm-up.
        throughput_tok_s: Output tokens/s over the QoS window.
        violation_backlog: 1 where QoS is violated by the backlog-aware definition (after the
            warm-up).
        violation_plain: 1 where QoS is violated by the plain definition (after the warm-up).
    """

    reward: Any
    terms: dict[str, Any]
    conditions: Conditions
    cost: Any
    throughput_tok_s: Any
    violation_backlog: Any
    violation_plain: Any


@dataclass(frozen=True)
class EpisodeContext:
    """The facts about one server that evaluating and observing it needs.

    Attributes:
        layout: Its observation layout.
        objective: Its objective.
        limits: The range of each knob.
        system_power: ``(alpha, beta_w)`` of its power.
        capacity_tok_s: Baseline's saturated throughput.
        rated_power_w: Power of all GPUs in that state.
    """

    layout: ObservationLayout
    objective: Objective
    limits: KnobLimits
    system_power: tuple[float, float]
    capacity_tok_s: float
    rated_power_w: float


class ControlLoop:
    """Conditions, QoS windows, reward and observation of one or many servers.

    Args:
        settings: One per server.
        reward: Reward terms, the same for all.
        interval_s: Length of a control interval in seconds.
        telemetry: Where the telemetry of each interval will be found, shape
            ``(num_envs, len(NUMERIC_FIELDS))``.
        reference: The same of servers that run the Baseline strategy on the same arrivals;
            needed when the reward's definition of QoS is ``reference``.

    Attributes:
        addresses: Address of each server's row, for :mod:`envs.compiled.control`.
        observations: The observations, shape ``(num_envs, entries)``, written again in each
            interval.
        coming: Conditions of the interval to come, shape
            ``(num_envs, len(Conditions._fields))``.

    Raises:
        ConfigurationError: The servers' QoS windows differ.
    """

    def __init__(
        self,
        settings: list[EpisodeContext],
        reward: Reward,
        interval_s: float,
        telemetry: FloatArray,
        reference: FloatArray | None = None,
    ) -> None:
        windows = {setting.objective.qos.window_s for setting in settings}
        if len(windows) > 1:
            raise ConfigurationError(
                "objective.qos.window_s: must be the same for all servers of a vector, "
                f"got {sorted(windows)}"
            )
        self.num_envs = count = len(settings)
        self.reward = reward
        self.telemetry, self._reference = telemetry, reference
        self.observations = np.zeros((count, at.NUM_ENTRIES), dtype=np.float32)
        self._settings = settings
        self._schedules: list[Schedule | None] = [None] * count
        self._window = max(1, round(windows.pop() / interval_s))
        self._rows = Rows(count, at.LOOP, rings=(np.float64, at.WINDOWS, self._window))
        self._locate()
        for index, setting in enumerate(settings):
            self._describe(index, setting, interval_s)
        self._limits = KnobLimits.stacked([item.limits for item in settings])
        self._capacity = np.array([item.capacity_tok_s for item in settings])
        self._rated_power = np.array([item.rated_power_w for item in settings])
        first = settings[0]
        self._facts_of_one = first.limits, self._capacity[0], self._rated_power[0]

    def _describe(self, index: int, setting: EpisodeContext, interval_s: float) -> None:
        """Writes what stays the same about a server into its row."""
        quality, loop = setting.objective.qos, self._loops[index]
        scope = setting.objective.power_scope
        alpha, beta_w = setting.system_power if scope == "system" else (1.0, 0.0)
        loop.interval_s = interval_s
        loop.alpha, loop.beta_w = alpha, beta_w
        loop.tolerance, loop.backlog_s = quality.tolerance, quality.backlog_s
        loop.sm_clock_max_mhz = setting.limits.sm_clock_max_mhz
        loop.warmup = round(quality.warmup_s / interval_s)
        loop.window = self._window
        loop.definition = QOS_DEFINITIONS.index(self.reward.qos_definition)
        layout = setting.layout
        loop.inverse_unit[:] = layout.inverse_unit
        loop.log_factor[:] = layout.log_factor
        loop.high[:] = layout.high

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the views, which must share memory with the rows."""
        views = (
            "addresses", "coming", "_requested", "_loops", "_passed", "_evaluated", "_raw",
            "_rings",
        )  # fmt: skip
        return {name: value for name, value in self.__dict__.items() if name not in views}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes the views again."""
        self.__dict__.update(state)
        self._locate()

    def _locate(self) -> None:
        rows = self._rows
        self.addresses = rows.addresses
        self._first = int(rows.addresses[0])
        self._loops = loops = rows.records
        self._rings = rows.section("rings")
        self.coming, self._passed = rows.floats("coming"), rows.floats("passed")
        self._requested = rows.floats("requested")
        self._evaluated, self._raw = rows.floats("evaluated"), rows.floats("observation")
        loops.rings_offset = rows.offset_of("rings")
        loops.telemetry_at = addresses_of_rows(self.telemetry)
        loops.encoded_at = addresses_of_rows(self.observations)
        if self._reference is not None:
            loops.reference_at = addresses_of_rows(self._reference)
        for index, schedule in enumerate(self._schedules):
            if schedule is not None:
                self._follow_schedule(index, schedule)

    def _follow_schedule(self, index: int, schedule: Schedule) -> None:
        self._schedules[index] = schedule  # kept alive: the row holds its addresses
        loop = self._loops[index]
        loop.stretches = len(schedule.rows)
        loop.begins_at = schedule.begins.ctypes.data
        loop.conditions_at = schedule.rows.ctypes.data

    def reset(self, index: int, schedule: Schedule) -> None:
        """Starts an episode of server ``index``, whose telemetry is that of time 0.

        Conditions that end before the episode does begin again.
        """
        self._follow_schedule(index, schedule)
        loop = self._loops[index]
        loop.sums[:] = 0.0
        self._rings[index] = 0.0
        loop.step = loop.place = loop.stretch = loop.seen = loop.ring_next = 0
        self.coming[index] = self._passed[index] = schedule.rows[0]
        self._evaluated[index] = 0.0
        limits, raw = self._settings[index].limits, self._raw[index]
        raw[:] = 0.0
        raw[_LAST] = raw[_PREVIOUS] = (
            limits.power_cap_max_w, limits.max_num_seqs, limits.sm_clock_max_mhz,
        )  # fmt: skip
        self.observe(index)

    def ask(self, knobs: Knobs) -> None:
        """Stores the knobs requested for the interval to come, shape ``(num_envs,)`` each."""
        requested, clock_mhz = self._requested, knobs.sm_clock_mhz
        requested[:, 0] = knobs.power_cap_w
        requested[:, 1] = knobs.max_num_seqs
        requested[:, 2] = math.inf if clock_mhz is None else clock_mhz

    @property
    def requested(self) -> Knobs:
        """Knobs requested by the last action, shape ``(num_envs,)`` each."""
        return Knobs(*self._raw[:, _LAST].T.copy())

    @property
    def conditions(self) -> Conditions:
        """Conditions of the interval to come: views of shape ``(num_envs,)``."""
        return Conditions(*self.coming.T)

    def follow(self) -> None:
        """Reads the interval that has passed and goes on to the next one (one server)."""
        at.follow_one(self._first)

    def observe(self, index: int) -> None:
        """Encodes the observation of server ``index`` again."""
        at.observe_one(int(self.addresses[index]))

    def evaluate(self, telemetry: Telemetry, knobs: Knobs) -> Evaluation:
        """Rewards the interval that has been followed, on all servers.

        Args:
            telemetry: What was observed over it, shape ``(num_envs,)`` a field.
            knobs: Knobs requested at its beginning, likewise.
        """
        facts = self._limits, self._capacity, self._rated_power
        previous = Knobs(*self._raw.T[_PREVIOUS])
        conditions = Conditions(*self._passed.T.copy())
        evaluated = self._evaluated.T.copy()
        return self._evaluate(telemetry, conditions, knobs, previous, evaluated, facts)

    def evaluate_one(self, knobs: Knobs) -> Evaluation:
        """Rewards the interval of a single server with NumPy scalars, several times as fast.

        NumPy scalars divide by zero as arrays do, so a term behaves alike for both.
        """
        telemetry = Telemetry.from_row(
            self.telemetry[0], gpu_power_w=(), requested=knobs, power_source=MODELLED
        )
        previous = Knobs(*self._raw[0, _PREVIOUS])
        conditions = Conditions(*self._passed[0])
        return self._evaluate(
            telemetry, conditions, knobs, previous, self._evaluated[0], self._facts_of_one
        )

    def _evaluate(
        self,
        telemetry: Telemetry,
        conditions: Conditions,
        knobs: Knobs,
        previous: Knobs,
        evaluated: Any,
        facts: tuple[KnobLimits, Any, Any],
    ) -> Evaluation:
        throughput, below, backlog, violation, shortfall, power_w = evaluated
        limits, capacity, rated_power = facts
        reward, terms = self.reward(
            Step(
                telemetry, conditions, knobs, previous, throughput, violation, shortfall,
                power_w, capacity, rated_power, limits,
            )
        )  # fmt: skip
        return Evaluation(reward, terms, conditions, violation, throughput, backlog, below)
