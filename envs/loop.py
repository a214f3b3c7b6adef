"""The arithmetic around a plant: conditions, QoS, reward and observation, for 1 to N servers.

:class:`envs.serving.ServingEnv` uses it with one server and
:class:`envs.vector.VectorServingEnv` with many, so both observe and reward alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs import qos
from envs.conditions import Conditions
from envs.errors import ConfigurationError
from envs.knobs import KnobLimits, Knobs
from envs.objective import Objective
from envs.observations import Observation, ObservationLayout
from envs.rewards import Reward, Step
from envs.telemetry import MODELLED, NUMERIC_FIELDS, Telemetry

FloatArray = NDArray[np.float64]
_TELEMETRY = {name: index for index, name in enumerate(NUMERIC_FIELDS)}
_ENTRY = {name: index for index, name in enumerate(Observation._fields)}
_COPIED = (
    "running", "waiting", "prefill_backlog_tokens", "oldest_wait_s", "kv_cache_usage",
    "preemptions", "ttft_p99_s", "tpot_p99_s", "power_w", "sm_clock_mhz", "cap_binding",
    "power_cap_w", "max_num_seqs",
)  # fmt: skip
_FROM = np.array([_TELEMETRY[name] for name in _COPIED])
_TO = np.array([_ENTRY[name] for name in _COPIED])
_RATES_FROM = np.array([_TELEMETRY[n] for n in ("output_tokens", "prompt_tokens", "arrivals")])
_RATES_TO = np.array([_ENTRY[n] for n in ("output_tok_s", "prompt_tok_s", "arrivals_per_s")])
_CONDITIONS_TO = np.array(
    [_ENTRY[n] for n in ("target_tok_s", "power_budget_w", "ttft_slo_s", "tpot_slo_s")]
)
_LAST = slice(_ENTRY["last_power_cap_w"], _ENTRY["last_sm_clock_mhz"] + 1)
_PREVIOUS = slice(_ENTRY["previous_power_cap_w"], _ENTRY["previous_sm_clock_mhz"] + 1)
_THROUGHPUT = _ENTRY["throughput_tok_s"]
_ARRIVAL_RATE = _ENTRY["arrival_rate_per_s"]
_OUTPUT_TOKENS, _ARRIVALS = _TELEMETRY["output_tokens"], _TELEMETRY["arrivals"]
_WAITING, _OLDEST = _TELEMETRY["waiting"], _TELEMETRY["oldest_wait_s"]
_POWER = _TELEMETRY["power_w"]


class Judgement(NamedTuple):
    """What is made of one interval; each field has shape ``(num_envs,)``.

    Attributes:
        reward: Weighted sum of the reward terms.
        terms: Each weighted term by name.
        cost: Constraint signal for safe RL: 1 where throughput QoS is violated in the
            reward's reading, 0 elsewhere and during the warm-up.
        throughput_tok_s: Output tokens/s over the QoS window.
        violation_backlog: 1 where the backlog-aware reading is violated (after the warm-up).
        violation_plain: 1 where the plain reading is violated (after the warm-up).
    """

    reward: Any
    terms: dict[str, Any]
    cost: Any
    throughput_tok_s: Any
    violation_backlog: Any
    violation_plain: Any


@dataclass(frozen=True)
class Setting:
    """The facts about one server that judging and observing it needs.

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

    Raises:
        ConfigurationError: The servers' QoS windows differ.
    """

    def __init__(self, settings: list[Setting], reward: Reward, interval_s: float) -> None:
        windows = {setting.objective.qos.window_s for setting in settings}
        if len(windows) > 1:
            raise ConfigurationError(
                "objective.qos.window_s: must be the same for all servers of a vector, "
                f"got {sorted(windows)}"
            )
        window = windows.pop()
        self.num_envs = count = len(settings)
        self.reward = reward
        self.interval_s = interval_s
        self._encode = ObservationLayout.stacked([item.layout for item in settings]).encode
        self._limits = KnobLimits.stacked([item.limits for item in settings])
        self._capacity = np.array([item.capacity_tok_s for item in settings])
        self._rated_power = np.array([item.rated_power_w for item in settings])
        system = [item.objective.power_scope == "system" for item in settings]
        self._alpha = np.where(system, [item.system_power[0] for item in settings], 1.0)
        self._beta_w = np.where(system, [item.system_power[1] for item in settings], 0.0)
        quality = [item.objective.qos for item in settings]
        self._tolerance = np.array([item.tolerance for item in quality])
        self._backlog_s = np.array([item.backlog_s for item in quality])
        self._warmup = np.array([round(item.warmup_s / interval_s) for item in quality])
        self._tokens = qos.WindowedRate(window, interval_s, count)
        self._arrivals = qos.WindowedRate(window, interval_s, count)
        self._reference = qos.WindowedRate(window, interval_s, count)
        self._schedules = np.zeros((count, 1, len(Conditions._fields)))
        self._servers = np.arange(count)
        self._step = np.zeros(count, dtype=np.int64)
        self._raw = np.zeros((count, len(Observation._fields)))
        self._now = np.zeros((count, len(Conditions._fields)))

    def reset(self, index: int, schedule: FloatArray) -> None:
        """Starts an episode of server ``index`` with its table of conditions.

        A table that ends before the episode does begins anew.
        """
        if self._schedules.shape[1] != len(schedule):
            self._schedules = np.zeros((self.num_envs, *schedule.shape))
        self._schedules[index] = schedule
        chosen = self._servers == index
        for window in (self._tokens, self._arrivals, self._reference):
            window.reset(chosen)
        self._step[index] = 0
        self._now[index] = schedule[0]
        limits = self._limits
        raw = self._raw[index]
        raw[:] = 0.0
        raw[_LAST] = raw[_PREVIOUS] = (
            limits.power_cap_max_w[index],
            limits.max_num_seqs[index],
            limits.sm_clock_max_mhz[index],
        )

    @property
    def condition_rows(self) -> FloatArray:
        """Conditions of the interval to come, shape ``(num_envs, len(Conditions._fields))``."""
        return self._now

    @property
    def requested(self) -> Knobs:
        """Knobs asked for by the last action, shape ``(num_envs,)`` each."""
        return Knobs(*self._raw[:, _LAST].T)

    def judge(
        self, rows: FloatArray, knobs: Knobs, reference_tokens: FloatArray | None = None
    ) -> Judgement:
        """Judges the interval that has just passed and moves on to the next one.

        Args:
            rows: Telemetry, shape ``(num_envs, len(NUMERIC_FIELDS))``.
            knobs: Knobs asked for at its beginning, shape ``(num_envs,)`` each.
            reference_tokens: Output tokens of the Baseline strategy on the same arrivals,
                shape ``(num_envs,)``; needed when the reward's reading is ``reference``.
        """
        conditions = Conditions(*self._now.T)
        target = conditions.target_tok_s
        throughput = self._tokens.push(rows[:, _OUTPUT_TOKENS])
        warm = self._step >= self._warmup
        below = qos.violation_plain(throughput, target, self._tolerance) & warm
        backlog = below & qos.work_waits(rows[:, _WAITING], rows[:, _OLDEST], self._backlog_s)
        goal = target
        if reference_tokens is not None:
            goal = np.minimum(target, self._reference.push(reference_tokens))
        if self.reward.qos_reading == "backlog":
            violation = backlog
        elif self.reward.qos_reading == "plain":
            violation = below
        else:
            violation = qos.violation_plain(throughput, goal, self._tolerance) & warm
        cost = violation.astype(np.float64)
        raw = self._raw
        reward, terms = self.reward(
            Step(
                telemetry=Telemetry(*rows.T, (), knobs, MODELLED),
                conditions=conditions,
                knobs=knobs,
                previous_knobs=Knobs(*raw[:, _LAST].T),
                throughput_tok_s=throughput,
                violation=cost,
                shortfall=qos.shortfall(throughput, goal),
                power_in_scope_w=self._alpha * rows[:, _POWER] + self._beta_w,
                capacity_tok_s=self._capacity,
                rated_power_w=self._rated_power,
                limits=self._limits,
            )
        )
        raw[:, _PREVIOUS] = raw[:, _LAST]
        last = raw[:, _LAST]
        last[:, 0] = knobs.power_cap_w
        last[:, 1] = knobs.max_num_seqs
        highest = self._limits.sm_clock_max_mhz
        free = knobs.sm_clock_mhz is None
        last[:, 2] = highest if free else np.minimum(knobs.sm_clock_mhz, highest)
        raw[:, _THROUGHPUT] = throughput
        raw[:, _ARRIVAL_RATE] = self._arrivals.push(rows[:, _ARRIVALS])
        self._step += 1
        self._now = self._schedules[self._servers, self._step % self._schedules.shape[1]]
        return Judgement(
            reward, terms, cost, throughput, backlog.astype(np.float64), below.astype(np.float64)
        )

    def observe(self, rows: FloatArray) -> NDArray[np.float32]:
        """Encodes what was observed and what is demanded next, shape ``(num_envs, entries)``."""
        raw = self._raw
        raw[:, _TO] = rows[:, _FROM]
        raw[:, _RATES_TO] = rows[:, _RATES_FROM] / self.interval_s
        raw[:, _CONDITIONS_TO] = self._now[:, :4]
        return np.asarray(self._encode(raw))
