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
from envs.observations import ObservationLayout
from envs.rewards import QOS_DEFINITIONS, Reward, Step
from envs.telemetry import MODELLED, Telemetry

FloatArray = NDArray[np.float64]
_COMING = slice(at.COMING, at.COMING + at.NUM_CONDITIONS)
_PASSED = slice(at.PASSED, at.PASSED + at.NUM_CONDITIONS)
_EVALUATED = slice(at.EVALUATED, at.EVALUATED + at.NUM_EVALUATED)
_LAST = slice(at.ENTRY.last_power_cap_w, at.ENTRY.last_sm_clock_mhz + 1)
_PREVIOUS = slice(at.ENTRY.previous_power_cap_w, at.ENTRY.previous_sm_clock_mhz + 1)


class Evaluation(NamedTuple):
    """What is made of one interval; each field is a number or has shape ``(num_envs,)``.

    Attributes:
        reward: Weighted sum of the reward terms.
        terms: Each weighted term by name.
        conditions: What was demanded during the interval.
        cost: Constraint signal for safe RL: 1 where throughput QoS is violated in the
            reward's reading, 0 elsewhere and during the warm-up.
        throughput_tok_s: Output tokens/s over the QoS window.
        violation_backlog: 1 where the backlog-aware reading is violated (after the warm-up).
        violation_plain: 1 where the plain reading is violated (after the warm-up).
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
        settings: One a server.
        reward: Reward terms, the same for all.
        interval_s: Length of a control interval in seconds.
        telemetry: Where the telemetry of each interval will be found, shape
            ``(num_envs, len(NUMERIC_FIELDS))``.
        reference: The same of servers that run the Baseline strategy on the same arrivals;
            needed when the reward's reading is ``reference``.

    Attributes:
        addresses: Address of each server's row, for :mod:`envs.compiled.control`.
        observations: The observations, shape ``(num_envs, entries)``, written again in each
            interval.
        coming: Conditions of the interval to come, shape
            ``(num_envs, len(Conditions._fields))``.
        asked: Knobs asked for, shape ``(num_envs, 3)``; a free clock is ``inf``.

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
        self._rows = Rows(
            count,
            numbers=(float, at.NUM_NUMBERS),
            counts=(int, at.NUM_COUNTS),
            RAW_AT=(float, at.NUM_ENTRIES),
            INVERSE_UNIT_AT=(float, at.NUM_ENTRIES),
            LOG_FACTOR_AT=(float, at.NUM_ENTRIES),
            HIGH_AT=(float, at.NUM_ENTRIES),
            RINGS_AT=(float, 3, self._window),
        )
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
        quality, numbers = setting.objective.qos, self._numbers[index]
        scope = setting.objective.power_scope
        alpha, beta_w = setting.system_power if scope == "system" else (1.0, 0.0)
        numbers[at.INTERVAL_S] = interval_s
        numbers[at.ALPHA], numbers[at.BETA_W] = alpha, beta_w
        numbers[at.TOLERANCE], numbers[at.BACKLOG_S] = quality.tolerance, quality.backlog_s
        numbers[at.CLOCK_MAX_MHZ] = setting.limits.sm_clock_max_mhz
        self._counts[index, at.WARMUP] = round(quality.warmup_s / interval_s)
        self._counts[index, at.WINDOW] = self._window
        self._counts[index, at.DEFINITION] = QOS_DEFINITIONS.index(self.reward.qos_definition)
        layout = setting.layout
        self._rows.view("INVERSE_UNIT_AT")[index] = layout.inverse_unit
        self._rows.view("LOG_FACTOR_AT")[index] = layout.log_factor
        self._rows.view("HIGH_AT")[index] = layout.high

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the views, which must share memory with the rows."""
        views = ("addresses", "coming", "asked", "_numbers", "_counts", "_raw", "_rings")
        return {name: value for name, value in self.__dict__.items() if name not in views}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes the views again."""
        self.__dict__.update(state)
        self._locate()

    def _locate(self) -> None:
        rows = self._rows
        self.addresses = rows.addresses
        self._first = int(rows.addresses[0])
        self._numbers, self._counts = rows.view("numbers"), rows.view("counts")
        self._raw, self._rings = rows.view("RAW_AT"), rows.view("RINGS_AT")
        self.coming = self._numbers[:, _COMING]
        self.asked = self._numbers[:, at.ASKED : at.ASKED + 3]
        for name in ("RAW_AT", "INVERSE_UNIT_AT", "LOG_FACTOR_AT", "HIGH_AT", "RINGS_AT"):
            self._counts[:, getattr(at, name)] = rows.addresses_of(name)
        self._counts[:, at.TELEMETRY_AT] = addresses_of_rows(self.telemetry)
        self._counts[:, at.OBSERVATION_AT] = addresses_of_rows(self.observations)
        if self._reference is not None:
            self._counts[:, at.REFERENCE_AT] = addresses_of_rows(self._reference)
        for index, schedule in enumerate(self._schedules):
            if schedule is not None:
                self._follow_schedule(index, schedule)

    def _follow_schedule(self, index: int, schedule: Schedule) -> None:
        self._schedules[index] = schedule  # kept alive: the row holds its addresses
        counts = self._counts[index]
        counts[at.STRETCHES] = len(schedule.rows)
        counts[at.BEGINS_AT] = schedule.begins.ctypes.data
        counts[at.CONDITIONS_AT] = schedule.rows.ctypes.data

    def reset(self, index: int, schedule: Schedule) -> None:
        """Starts an episode of server ``index``, whose telemetry is that of time 0.

        Conditions that end before the episode does begin again.
        """
        self._follow_schedule(index, schedule)
        numbers, counts = self._numbers[index], self._counts[index]
        numbers[at.SUMS : at.SUMS + 3] = 0.0
        self._rings[index] = 0.0
        counts[[at.STEP, at.PLACE, at.STRETCH, at.SEEN, at.RING_NEXT]] = 0
        numbers[_COMING] = numbers[_PASSED] = schedule.rows[0]
        numbers[_EVALUATED] = 0.0
        limits, raw = self._settings[index].limits, self._raw[index]
        raw[:] = 0.0
        raw[_LAST] = raw[_PREVIOUS] = (
            limits.power_cap_max_w, limits.max_num_seqs, limits.sm_clock_max_mhz,
        )  # fmt: skip
        self.observe(index)

    def ask(self, knobs: Knobs) -> None:
        """Notes the knobs asked for in the interval to come, shape ``(num_envs,)`` each."""
        asked, clock_mhz = self.asked, knobs.sm_clock_mhz
        asked[:, 0] = knobs.power_cap_w
        asked[:, 1] = knobs.max_num_seqs
        asked[:, 2] = math.inf if clock_mhz is None else clock_mhz

    @property
    def requested(self) -> Knobs:
        """Knobs asked for by the last action, shape ``(num_envs,)`` each."""
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
            knobs: Knobs asked for at its beginning, likewise.
        """
        facts = self._limits, self._capacity, self._rated_power
        numbers = self._numbers.T
        previous = Knobs(*self._raw.T[_PREVIOUS])
        conditions = Conditions(*numbers[_PASSED].copy())
        return self._evaluate(
            telemetry, conditions, knobs, previous, numbers[_EVALUATED].copy(), facts
        )

    def evaluate_one(self, knobs: Knobs) -> Evaluation:
        """The same of a single server, in numbers of NumPy, which is several times as fast.

        Numbers of NumPy divide by zero as arrays do, so a term behaves alike for both.
        """
        numbers = list(self._numbers[0])
        telemetry = Telemetry.from_row(
            self.telemetry[0], gpu_power_w=(), requested=knobs, power_source=MODELLED
        )
        previous = Knobs(*self._raw[0, _PREVIOUS])
        conditions = Conditions(*numbers[_PASSED])
        return self._evaluate(
            telemetry, conditions, knobs, previous, numbers[_EVALUATED], self._facts_of_one
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
