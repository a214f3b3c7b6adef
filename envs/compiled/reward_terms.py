"""The project's own reward terms, compiled: the formulas are those of :mod:`envs.rewards`.

A reward is a table of terms, one :class:`Term` each, in the order in which they are summed. A
term of another class cannot be compiled; then all of the reward is computed in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba.np.numpy_support import carray
from numpy.typing import NDArray

from envs import rewards
from envs.compiled.jit import inlined, kernel
from envs.compiled.records import address_of, dtype_of, floats_at, pointer_to
from envs.rewards import Reward, RewardTerm, sums_itself

if TYPE_CHECKING:
    from envs.compiled.control import Loop

EFFICIENCY, QOS, BUDGET, LATENCY, SWITCHING = range(5)
_KINDS: dict[type[RewardTerm], int] = {
    rewards.Efficiency: EFFICIENCY,
    rewards.QoSShortfall: QOS,
    rewards.BudgetOvershoot: BUDGET,
    rewards.LatencyShortfall: LATENCY,
    rewards.SwitchingCost: SWITCHING,
}
"""Classes whose formula is compiled; a subclass may have another one."""


class Term:
    """One term of a reward."""

    kind: int
    weight: float
    parameter: float  # the one that terms of its kind have, if any


TERM = dtype_of(Term)
_term = pointer_to(TERM)
_efficiency = kernel(rewards.efficiency)
_qos_shortfall = kernel(rewards.qos_shortfall)
_budget_overshoot = kernel(rewards.budget_overshoot)
_latency_shortfall = kernel(rewards.latency_shortfall)
_switching_cost = kernel(rewards.switching_cost)


def compiled_terms(reward: Reward) -> NDArray[Any]:
    """Returns the table of a reward's terms, shape ``(terms,)``; empty if a formula is its own.

    Weights and parameters are those of now: a later change of the reward does not reach them.
    """
    own = sums_itself(reward) or python_terms(reward)
    table = np.zeros(0 if own else len(reward.terms), dtype=TERM)
    for row, term in zip(table, reward.terms.values(), strict=False):
        row["kind"], row["weight"] = _KINDS[type(term)], term.weight
        match term:
            case rewards.QoSShortfall():
                row["parameter"] = term.shortfall_weight
            case rewards.LatencyShortfall():
                row["parameter"] = term.limit
    return table


def python_terms(reward: Reward) -> list[str]:
    """Returns the names of the terms whose class is not one of the project's own."""
    return [name for name, term in reward.terms.items() if type(term) not in _KINDS]


@inlined
def _amount(loop: Loop, telemetry: Any, kind: int, parameter: float) -> Any:
    """Returns a term of the interval that has passed, before weighting."""
    if kind == EFFICIENCY:
        return _efficiency(
            telemetry.output_tokens, telemetry.energy_gpu_j, telemetry.duration_s,
            loop.rated_power_w, loop.capacity_tok_s,
        )  # fmt: skip
    if kind == QOS:
        return _qos_shortfall(loop.evaluated.violation, loop.evaluated.shortfall, parameter)
    if kind == BUDGET:
        return _budget_overshoot(loop.evaluated.power_w, loop.coming.power_budget_w)
    if kind == LATENCY:
        return _latency_shortfall(
            telemetry.ttft_p99_s, telemetry.tpot_p99_s,
            loop.coming.ttft_slo_s, loop.coming.tpot_slo_s, parameter,
        )  # fmt: skip
    return _switching_cost(
        loop.requested.power_cap_w, loop.observation.last_power_cap_w, loop.cap_range_w,
        loop.octaves_moved, loop.octaves,
    )  # fmt: skip


@kernel
def reward_terms(loop: Loop, telemetry: Any) -> None:
    """Writes each weighted term of the interval that has passed, and their sum.

    The knobs and the conditions are still those of that interval.
    """
    count = loop.num_terms
    terms = carray(_term(loop.terms_at), (count,), TERM)
    values = floats_at(address_of(loop) + loop.values_offset, count)
    total = 0.0
    for index in range(count):
        term = terms[index]
        values[index] = term.weight * _amount(loop, telemetry, term.kind, term.parameter)
        total += values[index]
    loop.evaluated.reward = total
