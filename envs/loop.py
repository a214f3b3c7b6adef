"""The arithmetic around a plant: conditions, QoS, reward and observation, for 1 to N servers.

:class:`envs.serving.ServingEnv` uses it with one server and
:class:`envs.vector.VectorServingEnv` with many, so both observe and reward alike.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs import qos
from envs.conditions import Conditions
from envs.knobs import KnobLimits, Knobs
from envs.objective import Objective, power_in_scope
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
_WAITING, _POWER = _TELEMETRY["waiting"], _TELEMETRY["power_w"]


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


class ControlLoop:
    """Conditions, QoS windows, reward and observation of ``num_envs`` servers.

    Args:
        layout: Observation layout (the servers share it).
        objective: Source of the conditions.
        reward: Reward terms.
        limits: The range of each knob.
        system_power: ``(alpha, beta_w)`` of a server's power.
        capacity_tok_s: Baseline's saturated throughput.
        rated_power_w: Power of all GPUs in that state.
        interval_s: Length of a control interval in seconds.
        num_envs: Number of servers.
    """

    def __init__(
        self,
        *,
        layout: ObservationLayout,
        objective: Objective,
        reward: Reward,
        limits: KnobLimits,
        system_power: tuple[float, float],
        capacity_tok_s: float,
        rated_power_w: float,
        interval_s: float,
        num_envs: int = 1,
    ) -> None:
        self.layout = layout
        self.objective = objective
        self.reward = reward
        self.limits = limits
        self.interval_s = interval_s
        self.num_envs = num_envs
        self._system_power = system_power
        self._capacity = capacity_tok_s
        self._rated_power = rated_power_w
        window = objective.qos.window_s
        self._tokens = qos.WindowedRate(window, interval_s, num_envs)
        self._arrivals = qos.WindowedRate(window, interval_s, num_envs)
        self._reference = qos.WindowedRate(window, interval_s, num_envs)
        self._warmup = round(objective.qos.warmup_s / interval_s)
        self._schedules = np.zeros((num_envs, 1, len(Conditions._fields)))
        self._rows = np.arange(num_envs)
        self._step = np.zeros(num_envs, dtype=np.int64)
        self._raw = np.zeros((num_envs, len(layout.names)))
        self._knobs = Knobs(np.zeros(num_envs), np.zeros(num_envs), None)
        self._previous = self._knobs

    def reset(self, index: int, schedule: FloatArray) -> None:
        """Starts an episode of server ``index`` with its table of conditions.

        A table that ends before the episode does begins anew.
        """
        if self._schedules.shape[1] != len(schedule):
            self._schedules = np.zeros((self.num_envs, *schedule.shape))
        self._schedules[index] = schedule
        chosen = self._rows == index
        for window in (self._tokens, self._arrivals, self._reference):
            window.reset(chosen)
        self._step[index] = 0
        raw = self._raw[index]
        raw[:] = 0.0
        highest = (self.limits.power_cap_max_w, self.limits.max_num_seqs)
        raw[_LAST] = raw[_PREVIOUS] = (*highest, self.limits.sm_clock_max_mhz)

    @property
    def conditions(self) -> Conditions:
        """Conditions of the interval to come (or under way), shape ``(num_envs,)`` each."""
        return Conditions(*self._condition_rows().T)

    @property
    def requested(self) -> Knobs:
        """Knobs asked for by the last action, shape ``(num_envs,)`` each."""
        cap, seqs, clock = self._raw[:, _LAST].T
        return Knobs(cap, seqs, clock)

    def _condition_rows(self) -> FloatArray:
        step = self._step % self._schedules.shape[1]
        return np.asarray(self._schedules[self._rows, step])

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
        tolerance = self.objective.qos.tolerance
        condition_rows = self._condition_rows()
        conditions = Conditions(*condition_rows.T)
        target = conditions.target_tok_s
        throughput = self._tokens.push(rows[:, _OUTPUT_TOKENS])
        warm = self._step >= self._warmup
        below = (throughput < (1.0 - tolerance) * target) & warm
        backlog = below & (rows[:, _WAITING] > 0)
        bar = target
        if reference_tokens is not None:
            bar = np.minimum(target, self._reference.push(reference_tokens))
        if self.reward.qos_reading == "backlog":
            violation = backlog
        elif self.reward.qos_reading == "plain":
            violation = below
        else:
            violation = (throughput < (1.0 - tolerance) * bar) & warm
        cost = violation.astype(np.float64)
        raw = self._raw
        clock = self.limits.sm_clock_max_mhz
        if knobs.sm_clock_mhz is not None:
            clock = np.minimum(knobs.sm_clock_mhz, clock)
        reward, terms = self.reward(
            Step(
                telemetry=Telemetry(*rows.T, (), knobs, MODELLED),
                conditions=conditions,
                knobs=knobs,
                previous_knobs=Knobs(*raw[:, _LAST].T),
                throughput_tok_s=throughput,
                violation=cost,
                shortfall=qos.shortfall(throughput, bar),
                power_in_scope_w=power_in_scope(
                    rows[:, _POWER], self.objective.power_scope, self._system_power
                ),
                capacity_tok_s=self._capacity,
                rated_power_w=self._rated_power,
                limits=self.limits,
            )
        )
        raw[:, _PREVIOUS] = raw[:, _LAST]
        raw[:, _LAST.start] = knobs.power_cap_w
        raw[:, _LAST.start + 1] = knobs.max_num_seqs
        raw[:, _LAST.start + 2] = clock
        raw[:, _THROUGHPUT] = throughput
        raw[:, _ARRIVAL_RATE] = self._arrivals.push(rows[:, _ARRIVALS])
        self._step += 1
        return Judgement(
            reward, terms, cost, throughput, backlog.astype(np.float64), below.astype(np.float64)
        )

    def observe(self, rows: FloatArray) -> NDArray[np.float32]:
        """Encodes what was observed and what is demanded next, shape ``(num_envs, entries)``."""
        raw = self._raw
        raw[:, _TO] = rows[:, _FROM]
        raw[:, _RATES_TO] = rows[:, _RATES_FROM] / self.interval_s
        raw[:, _CONDITIONS_TO] = self._condition_rows()[:, :4]
        return self.layout.encode(raw)
