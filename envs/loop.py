"""The arithmetic around a plant: conditions, QoS, reward and observation, for 1 to N servers.

:class:`envs.serving.ServingEnv` uses it with one server and
:class:`envs.simulator.vector.VectorServingEnv` with many, so both observe and reward alike.
"""

from __future__ import annotations

import logging
import math
from copy import copy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.compiled import control as at
from envs.compiled.reward_terms import compiled_terms, python_terms
from envs.compiled.rows import Rows, addresses_of_rows
from envs.compiled.window import window_length
from envs.episode import EpisodeContext, Evaluation
from envs.errors import ConfigurationError
from envs.knobs import KnobLimits, Knobs
from envs.objectives.conditions import Conditions
from envs.objectives.schedule import Schedule
from envs.observations import Observation
from envs.rewards import (
    QOS_DEFINITIONS,
    Reward,
    Step,
    checked,
    knob_ranges,
    octaves_between,
    sums_itself,
)
from envs.telemetry import MODELLED, Telemetry

FloatArray = NDArray[np.float64]
_LOG = logging.getLogger(__name__)
_said: set[type] = set()
_ENTRY = Observation(*range(len(Observation._fields)))
_LAST = slice(_ENTRY.last_power_cap_w, _ENTRY.last_sm_clock_mhz + 1)
_PREVIOUS = slice(_ENTRY.previous_power_cap_w, _ENTRY.previous_sm_clock_mhz + 1)


class _Row(NamedTuple):
    """The first server's numbers, seen one by one: a view of a row is made only once."""

    requested: FloatArray
    octaves_moved: FloatArray
    last: FloatArray
    evaluated: FloatArray
    values: FloatArray
    coming: FloatArray


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
        self._window = window_length(windows.pop(), interval_s)
        self._terms = compiled_terms(reward)
        self._rows = Rows(
            count,
            at.LOOP,
            rings=(np.float64, at.WINDOWS, self._window),
            values=(np.float64, len(self._terms)),
        )
        self._locate()
        for index, setting in enumerate(settings):
            self._describe(index, setting, interval_s)
        self._limits = KnobLimits.stacked([item.limits for item in settings])
        self._capacity = np.array([item.capacity_tok_s for item in settings])
        self._rated_power = np.array([item.rated_power_w for item in settings])
        first = settings[0]
        self._facts_of_one = first.limits, self._capacity[0], self._rated_power[0]
        if count > 1:
            _say_what_is_slow(reward)

    def _describe(self, index: int, setting: EpisodeContext, interval_s: float) -> None:
        """Writes what stays the same about a server into its row."""
        quality, loop = setting.objective.qos, self._loops[index]
        scope = setting.objective.power_scope
        alpha, beta_w = setting.system_power if scope == "system" else (1.0, 0.0)
        loop.interval_s = interval_s
        loop.alpha, loop.beta_w = alpha, beta_w
        loop.tolerance, loop.backlog_s = quality.tolerance, quality.backlog_s
        loop.sm_clock_max_mhz = setting.limits.sm_clock_max_mhz
        loop.warmup = quality.first_evaluated(interval_s)
        loop.window = self._window
        loop.definition = QOS_DEFINITIONS.index(self.reward.qos_definition)
        layout = setting.layout
        loop.inverse_unit[:] = layout.inverse_unit
        loop.log_factor[:] = layout.log_factor
        loop.high[:] = layout.high
        loop.capacity_tok_s, loop.rated_power_w = setting.capacity_tok_s, setting.rated_power_w
        loop.cap_range_w, loop.octaves = knob_ranges(setting.limits)
        loop.num_terms = len(self._terms)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the views, which must share memory with the rows."""
        views = (
            "addresses", "coming", "_requested", "_loops", "_passed", "_evaluated", "_raw",
            "_rings", "_values", "_octaves_moved", "_one",
        )  # fmt: skip
        return {name: value for name, value in self.__dict__.items() if name not in views}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes the views again."""
        self.__dict__.update(state)
        self._locate()

    def fork(self, telemetry: FloatArray, reference: FloatArray | None) -> ControlLoop:
        """Returns a copy that goes on by itself.

        Args:
            telemetry: Where the copy finds telemetry.
            reference: The same of its reference.
        """
        fork = object.__new__(ControlLoop)
        own = {"_rows": copy(self._rows), "observations": self.observations.copy()}
        given = {"telemetry": telemetry, "_reference": reference}
        fork.__setstate__({**self.__getstate__(), **own, **given, "_schedules": [*self._schedules]})
        return fork

    def _locate(self) -> None:
        rows = self._rows
        self.addresses = rows.addresses
        self._first = int(rows.addresses[0])
        self._loops = loops = rows.records
        self._rings = rows.section("rings")
        self.coming, self._passed = rows.floats("coming"), rows.floats("passed")
        self._requested = rows.floats("requested")
        self._evaluated, self._raw = rows.floats("evaluated"), rows.floats("observation")
        self._values, self._octaves_moved = rows.section("values"), rows.floats("octaves_moved")
        self._one = _Row(*(table[0] for table in (
            self._requested, self._octaves_moved, self._raw[:, _LAST], self._evaluated,
            self._values, self.coming,
        )))  # fmt: skip
        loops.rings_offset, loops.values_offset = rows.offset_of("rings"), rows.offset_of("values")
        loops.terms_at = self._terms.ctypes.data
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
        before = self._raw[:, _ENTRY.last_max_num_seqs]
        self._octaves_moved[:, 0] = octaves_between(knobs.max_num_seqs, before)

    def ask_one(self, knobs: Knobs) -> None:
        """Stores the knobs, plain numbers, requested of a single server."""
        one, clock_mhz = self._one, knobs.sm_clock_mhz
        one.requested[0] = knobs.power_cap_w
        one.requested[1] = knobs.max_num_seqs
        one.requested[2] = math.inf if clock_mhz is None else clock_mhz
        before = one.last[1]
        moved = knobs.max_num_seqs != before
        one.octaves_moved[0] = octaves_between(knobs.max_num_seqs, before) if moved else 0.0

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
        conditions = Conditions(*self._passed.T.copy())
        evaluated = self._evaluated.T.copy()
        if len(self._terms):
            terms = dict(zip(self.reward.terms, self._values.T.copy(), strict=True))
            return _evaluation(evaluated, evaluated[-1], terms, conditions)
        previous = Knobs(*self._raw.T[_PREVIOUS])
        facts = self._limits, self._capacity, self._rated_power
        return self._evaluate(telemetry, conditions, knobs, previous, evaluated, facts)

    def evaluate_one(self, knobs: Knobs) -> tuple[list[float], list[float]]:
        """Rewards the interval of a single server, in plain numbers.

        Returns:
            What :class:`~envs.compiled.control.Evaluated` names, and the weighted terms.
        """
        evaluated: list[float] = self._one.evaluated.tolist()
        if len(self._terms):
            return evaluated, self._one.values.tolist()
        # NumPy scalars divide by zero as arrays do, so a term behaves alike for both.
        telemetry = Telemetry.from_row(
            self.telemetry[0], gpu_power_w=(), requested=knobs, power_source=MODELLED
        )
        found = self._evaluate(
            telemetry,
            Conditions(*self._passed[0]),
            knobs,
            Knobs(*self._raw[0, _PREVIOUS]),
            self._evaluated[0],
            self._facts_of_one,
        )
        evaluated[-1] = float(found.reward)
        return evaluated, [float(term) for term in found.terms.values()]

    @property
    def coming_one(self) -> list[float]:
        """Conditions of the interval to come of a single server, in plain numbers."""
        conditions: list[float] = self._one.coming.tolist()
        return conditions

    def _evaluate(
        self,
        telemetry: Telemetry,
        conditions: Conditions,
        knobs: Knobs,
        previous: Knobs,
        evaluated: Any,
        facts: tuple[KnobLimits, Any, Any],
    ) -> Evaluation:
        throughput, _, _, violation, shortfall, power_w, _ = evaluated
        limits, capacity, rated_power = facts
        found = self.reward(
            Step(
                telemetry, conditions, knobs, previous, throughput, violation, shortfall,
                power_w, capacity, rated_power, limits,
            )
        )  # fmt: skip
        if sums_itself(self.reward):
            found = checked(self.reward, found, np.shape(throughput))
        reward, terms = found
        return _evaluation(evaluated, reward, terms, conditions)


def _evaluation(
    evaluated: Any, reward: Any, terms: dict[str, Any], conditions: Conditions
) -> Evaluation:
    throughput, below, backlog, violation = evaluated[:4]
    return Evaluation(reward, terms, conditions, violation, throughput, backlog, below)


def _say_what_is_slow(reward: Reward) -> None:
    """Says once in a process which terms keep a reward from being compiled."""
    for name in python_terms(reward):
        kind = type(reward.terms[name])
        if kind not in _said:
            _said.add(kind)
            _LOG.warning(
                "reward.terms.%s: %s is computed in Python, and with it all of the reward; the "
                "terms of envs.rewards alone are compiled and faster",
                name, kind.__name__,
            )  # fmt: skip
