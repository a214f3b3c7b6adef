"""What the control loop is told about a server, and what it makes of an interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from envs.knobs import KnobLimits
from envs.objectives.conditions import Conditions
from envs.objectives.objective import Objective
from envs.observations import ObservationLayout


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
