"""Reward terms, and the weighted sum an agent learns from.

A term is a dataclass with ``__call__(step)``; it works on one server (numbers) and on a
vector of servers (arrays) alike, so use NumPy's ufuncs. A reward file in ``conf/reward``
names its terms and their weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from typing_extensions import override

from envs.errors import ConfigurationError
from envs.fields import Checked, FieldError, OneOf, Part
from envs.finite import is_finite
from envs.knobs import KnobLimits, Knobs
from envs.objectives.conditions import Conditions
from envs.quantities import Positive, Weight
from envs.telemetry import Telemetry


class Step(NamedTuple):
    """All that a reward term may look at: one control interval of one or many servers.

    Attributes:
        telemetry: What was observed over the interval.
        conditions: What was demanded during the interval.
        knobs: Knobs requested at its beginning.
        previous_knobs: Knobs requested before.
        throughput_tok_s: Output tokens/s over the QoS window.
        violation: Whether throughput QoS was violated, by the reward's definition.
        shortfall: Relative shortfall below the target (or reference) of that definition, 0 to 1.
        power_in_scope_w: Power that the budget covers.
        capacity_tok_s: Baseline's saturated throughput.
        rated_power_w: Power of all GPUs in that state.
        limits: The range of each knob.
    """

    telemetry: Telemetry
    conditions: Conditions
    knobs: Knobs
    previous_knobs: Knobs
    throughput_tok_s: Any
    violation: Any
    shortfall: Any
    power_in_scope_w: Any
    capacity_tok_s: Any
    rated_power_w: Any
    limits: KnobLimits


@dataclass(kw_only=True)
class RewardTerm(Checked, ABC):
    """One named part of the reward.

    Attributes:
        weight: Factor on the term in the sum.
    """

    config_key: ClassVar[str] = "reward.terms"

    weight: Weight = 1.0

    @abstractmethod
    def __call__(self, step: Step) -> Any:
        """Returns the term before weighting: a number, or shape ``(num_envs,)``."""


@dataclass(kw_only=True)
class Efficiency(RewardTerm):
    """Energy that the tokens would have cost at the reference point, minus energy spent.

    The reference is Baseline at saturation; the term is in units of its energy per interval,
    so that 0 means "as efficient as Baseline at full load" and 1 is the upper bound.
    """

    @override
    def __call__(self, step: Step) -> Any:
        telemetry = step.telemetry
        return efficiency(
            telemetry.output_tokens,
            telemetry.energy_gpu_j,
            telemetry.duration_s,
            step.rated_power_w,
            step.capacity_tok_s,
        )


@dataclass(kw_only=True)
class QoSShortfall(RewardTerm):
    """Minus the throughput violation: 1 for violating, plus the relative shortfall.

    Attributes:
        shortfall_weight: Weight of the relative shortfall against the violation itself.
    """

    weight: Weight = 1.0
    shortfall_weight: Weight = 2.0

    @override
    def __call__(self, step: Step) -> Any:
        return qos_shortfall(step.violation, step.shortfall, self.shortfall_weight)


@dataclass(kw_only=True)
class BudgetOvershoot(RewardTerm):
    """Minus the power above the budget, as a fraction of the budget."""

    weight: Weight = 5.0

    @override
    def __call__(self, step: Step) -> Any:
        return budget_overshoot(step.power_in_scope_w, step.conditions.power_budget_w)


@dataclass(kw_only=True)
class LatencyShortfall(RewardTerm):
    """Minus how far the 99th percentiles of TTFT and TPOT lie beyond their SLOs.

    Attributes:
        limit: Largest relative excess that counts, per SLO.
    """

    weight: Weight = 0.5
    limit: Positive = 2.0

    @override
    def __call__(self, step: Step) -> Any:
        telemetry, conditions = step.telemetry, step.conditions
        return latency_shortfall(
            telemetry.ttft_p99_s,
            telemetry.tpot_p99_s,
            conditions.ttft_slo_s,
            conditions.tpot_slo_s,
            self.limit,
        )


@dataclass(kw_only=True)
class SwitchingCost(RewardTerm):
    """Minus the distance that the knobs moved, where the full range of each counts 1."""

    weight: Weight = 0.02

    @override
    def __call__(self, step: Step) -> Any:
        cap_range_w, octaves = knob_ranges(step.limits)
        return switching_cost(
            step.knobs.power_cap_w,
            step.previous_knobs.power_cap_w,
            cap_range_w,
            octaves_between(step.knobs.max_num_seqs, step.previous_knobs.max_num_seqs),
            octaves,
        )


# The terms as formulas of numbers: of arrays here, and compiled in envs.compiled.reward_terms.


def efficiency(
    output_tokens: Any, energy_gpu_j: Any, duration_s: Any, rated_power_w: Any, capacity_tok_s: Any
) -> Any:
    """Returns :class:`Efficiency` of an interval."""
    rated_j = rated_power_w * duration_s
    worth_j = output_tokens * (rated_power_w / capacity_tok_s)
    return (worth_j - energy_gpu_j) / rated_j


def qos_shortfall(violation: Any, shortfall: Any, shortfall_weight: float) -> Any:
    """Returns :class:`QoSShortfall` of an interval."""
    return -(violation + shortfall_weight * violation * shortfall)


def budget_overshoot(power_w: Any, budget_w: Any) -> Any:
    """Returns :class:`BudgetOvershoot` of an interval."""
    return -np.maximum(0.0, power_w / np.maximum(budget_w, 1.0) - 1.0)


def latency_shortfall(
    ttft_s: Any, tpot_s: Any, ttft_slo_s: Any, tpot_slo_s: Any, limit: float
) -> Any:
    """Returns :class:`LatencyShortfall` of an interval."""
    ttft = ttft_s / ttft_slo_s - 1.0
    tpot = tpot_s / tpot_slo_s - 1.0
    return -(np.minimum(np.maximum(ttft, 0.0), limit) + np.minimum(np.maximum(tpot, 0.0), limit))


def switching_cost(
    cap_w: Any, previous_cap_w: Any, cap_range_w: Any, octaves_moved: Any, octaves: Any
) -> Any:
    """Returns :class:`SwitchingCost` of an interval."""
    return -(np.abs(cap_w - previous_cap_w) / cap_range_w + octaves_moved / octaves)


def knob_ranges(limits: KnobLimits) -> tuple[Any, Any]:
    """Returns the range of the power cap in watts, and of the batch limit in octaves."""
    cap_range_w = np.maximum(limits.power_cap_max_w - limits.power_cap_min_w, 1e-9)
    return cap_range_w, np.maximum(np.log2(limits.max_num_seqs), 1.0)


def octaves_between(max_num_seqs: Any, previous: Any) -> Any:
    """Returns how many octaves the batch limit moved.

    It is NumPy's logarithm for compiled rewards too: that of the C library differs in the last bit.
    """
    return np.abs(np.log2(max_num_seqs / previous))


QOS_DEFINITIONS = ("backlog", "plain", "reference")


@dataclass(kw_only=True)
class Reward(Checked):
    """Weighted sum of named terms.

    Attributes:
        terms: The terms by name; each appears in ``info["rewards"]``.
        qos_definition: Definition of a throughput violation that the reward and ``info["cost"]``
            use: ``backlog`` (below target while work waits: a live server can know it),
            ``plain``, or ``reference`` (below Baseline on the same arrivals; simulation only).
    """

    config_key: ClassVar[str] = "reward"

    terms: Annotated[dict[str, Any], Part("reward term")] = field(default_factory=dict)
    qos_definition: Annotated[str, OneOf(*QOS_DEFINITIONS)] = "backlog"

    def __post_init__(self) -> None:
        """Checks that there are terms."""
        super().__post_init__()
        self.require(len(self.terms) > 0, "terms", "hold at least one term")
        for name, term in self.terms.items():
            if not isinstance(term, RewardTerm):
                raise FieldError(self.config_key, f"terms.{name}", "is not a reward term")

    def __call__(self, step: Step) -> tuple[Any, dict[str, Any]]:
        """Returns the reward and each weighted term by name.

        Raises:
            ConfigurationError: A term is no finite number, or of another shape; an agent would
                learn from it silently.
        """
        shape = np.shape(step.throughput_tok_s)
        values = {name: term(step) for name, term in self.terms.items()}
        bad = {name: value for name, value in values.items() if not _fits(value, shape)}
        if not bad:
            parts = {name: self.terms[name].weight * value for name, value in values.items()}
            total = sum(parts.values())
            if is_finite(total):
                return total, parts
        wrong = (bad or values).items()
        told = "; ".join(f"terms.{name} returned {value!r}" for name, value in wrong)
        raise ConfigurationError(f"reward: must be {_each(shape)}a finite number; {told}")


def sums_itself(reward: Reward) -> bool:
    """Returns whether a reward's class has a sum of its own in place of the weighted one."""
    return type(reward).__call__ is not Reward.__call__


def checked(reward: Reward, found: Any, shape: tuple[int, ...]) -> tuple[Any, dict[str, Any]]:
    """Returns what a reward with a sum of its own gave, if it is the reward and its terms.

    Args:
        reward: The reward.
        found: What it returned.
        shape: Shape of an interval: empty for one server, ``(num_envs,)`` for many.

    Raises:
        ConfigurationError: It is something else; the message names the reward's class.
    """
    name = type(reward).__name__
    pair = isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping)
    if not pair or list(found[1]) != list(reward.terms):
        raise ConfigurationError(
            f"reward: {name} must return a pair of the reward and a dict of its terms "
            f"({', '.join(reward.terms)}), got {found!r}"
        )
    total, parts = found
    for key, value in {"the reward": total, **parts}.items():
        if not _fits(value, shape):
            raise ConfigurationError(
                f"reward: {name} must return {_each(shape)}a finite number; {key} is {value!r}"
            )
    return total, dict(parts)


def _fits(value: Any, shape: tuple[int, ...]) -> bool:
    """Returns whether a value is a finite number, or one for each server."""
    if isinstance(value, list | tuple) or not is_finite(value):
        return False
    return isinstance(value, float) or np.shape(value) in ((), shape)


def _each(shape: tuple[int, ...]) -> str:
    return f"an array of one for each of the {shape[0]} servers or " if shape else ""
