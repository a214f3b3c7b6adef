"""What the benchmark requires of a trained agent, and whether the agent meets it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.benchmarking.metrics import (
    ORACLE,
    Results,
    column,
    difference,
    headroom,
    overall,
)
from experiments.evaluation.metric_table import (
    CHANGES_PER_MINUTE,
    OUTPUT_TOKENS_RELATIVE,
    TOKENS_PER_JOULE_RELATIVE,
    WITHIN_BUDGET,
)
from experiments.evaluation.suites import SuiteScenario

RIVALS = ("pals", "pals_symmetric", "governor")
PALS = "pals"
QOS_LIMIT = 0.02
SERVED = 0.99
"""Fraction of Baseline's tokens below which an agent counts as starving requests."""
PERSISTENT_VIOLATION = 0.10
"""Violation rate above which an agent counts as giving a scenario up."""
KNOB_OSCILLATION = 60.0
"""Knob changes per minute (every other interval) from which an agent counts as oscillating."""


class Goal(NamedTuple):
    """One requirement on the agent.

    Attributes:
        name: What is required.
        found: What was measured, in words and numbers.
        met: Whether that is enough; ``None`` when it could not be checked.
    """

    name: str
    found: str
    met: bool | None


def goals(
    results: Results,
    scenarios: Mapping[str, SuiteScenario],
    subject: str,
    restricted: str | None,
) -> list[Goal]:
    """Checks all goals.

    Args:
        results: All runs.
        scenarios: The suite's scenarios.
        subject: The agent.
        restricted: The agent that may set the cap only, if there is one.
    """
    known = set(next(iter(results.values())))
    found = [_dominates(results, subject, rival) for rival in RIVALS if rival in known]
    found += [
        _violations(results, subject, WITHIN_BUDGET, "against a Baseline that keeps to the budget"),
        _violations(results, subject, "qos_violation_rate", "against one without budget"),
    ]
    if PALS in known:
        found += [_ttft(results, subject), _no_loss(results, subject)]
    if ORACLE in known:
        moving = [name for name, scenario in scenarios.items() if scenario.load_moves]
        found.append(_headroom(results, subject, [name for name in moving if name in results]))
    if restricted is not None and restricted in known:
        names = [n for n, own in scenarios.items() if own.batch_matters and n in results]
        found.append(_second_knob(results, subject, restricted, names))
    return found


def degeneracies(results: Results, subject: str) -> list[Goal]:
    """Looks for policies that only seem good."""
    names = list(results)
    served = {name: _mean(results, name, subject, OUTPUT_TOKENS_RELATIVE) for name in names}
    least = min(served, key=lambda name: served[name])
    rates = {
        name: _mean(results, name, subject, WITHIN_BUDGET)
        for name in names
        if column(results, name, subject, WITHIN_BUDGET) is not None
    }
    changes = {name: _mean(results, name, subject, CHANGES_PER_MINUTE) for name in names}
    most = max(changes, key=lambda name: changes[name])
    found = [
        Goal(
            f"serves at least {SERVED:.0%} of Baseline's tokens in every scenario",
            f"least {served[least]:.1%} ({least})",
            served[least] >= SERVED,
        ),
        Goal(
            f"changes the knobs fewer than {KNOB_OSCILLATION:.0f} times a minute in every scenario",
            f"most {changes[most]:.0f} ({most})",
            changes[most] < KNOB_OSCILLATION,
        ),
    ]
    if rates:
        worst = max(rates, key=lambda name: rates[name])
        found.append(
            Goal(
                f"no persistent violation: QoS violations within the budget at most "
                f"{PERSISTENT_VIOLATION:.0%} in every scenario",
                f"most {rates[worst]:.1%} ({worst})",
                rates[worst] <= PERSISTENT_VIOLATION,
            )
        )
    return found


def _dominates(results: Results, subject: str, rival: str) -> Goal:
    efficiency = difference(results, subject, rival, TOKENS_PER_JOULE_RELATIVE)
    violations = difference(results, subject, rival, WITHIN_BUDGET)
    name = f"at least as efficient as {rival}, with fewer QoS violations, intervals apart"
    if efficiency is None or violations is None:
        return Goal(name, "not comparable", None)
    return Goal(
        name,
        f"efficiency {efficiency.value:+.3f} [{efficiency.low:+.3f}, {efficiency.high:+.3f}], "
        f"violations {100 * violations.value:+.1f} points "
        f"[{100 * violations.low:+.1f}, {100 * violations.high:+.1f}]",
        efficiency.low >= 0 and violations.high < 0,
    )


def _violations(results: Results, subject: str, key: str, against: str) -> Goal:
    rates = overall(results, subject, key)
    name = f"QoS violations at most {QOS_LIMIT:.0%} on average, {against}"
    if rates is None:
        return Goal(name, "no scenario has a target", None)
    rate = rates.mean
    text = f"{rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}]"
    return Goal(name, text, rate.value <= QOS_LIMIT)


def _ttft(results: Results, subject: str) -> Goal:
    """Compares TTFT as a geometric mean of ratios: scenarios differ by orders of magnitude."""
    ratios = []
    for scenario in results:
        own = column(results, scenario, subject, "ttft_p99_s")
        other = column(results, scenario, PALS, "ttft_p99_s")
        if own is not None and other is not None:
            ratios.append(float(np.log(own / other).mean()))
    ratio = float(np.exp(np.mean(ratios)))
    return Goal(
        f"TTFT p99 no worse than that of {PALS}",
        f"{ratio:.2f} times as long (geometric mean over scenarios)",
        ratio <= 1.0,
    )


def _no_loss(results: Results, subject: str) -> Goal:
    """Looks for scenarios where the agent loses efficiency and gains nothing in QoS for it."""
    lost = []
    for scenario in results:
        ratio = _mean(results, scenario, subject, TOKENS_PER_JOULE_RELATIVE) / _mean(
            results, scenario, PALS, TOKENS_PER_JOULE_RELATIVE
        )
        gained = difference(results, subject, PALS, WITHIN_BUDGET, [scenario])
        fewer = gained is not None and gained.high < 0
        if ratio < 0.98 and not fewer:
            lost.append(f"{scenario} ({ratio - 1:+.1%})")
    return Goal(
        f"in no scenario over 2 % less efficient than {PALS} without fewer violations",
        ", ".join(lost) or "none",
        not lost,
    )


def _headroom(results: Results, subject: str, names: Sequence[str]) -> Goal:
    fractions = {name: headroom(results, name, subject) for name in names}
    found = {name: fraction for name, fraction in fractions.items() if fraction is not None}
    name = "at least 100 % of the static oracle's headroom wherever the load moves"
    if not found:
        return Goal(name, "no such scenario", None)
    text = ", ".join(f"{key} {fraction.value:.0%}" for key, fraction in found.items())
    return Goal(name, text, all(fraction.value >= 1.0 for fraction in found.values()))


def _second_knob(results: Results, subject: str, restricted: str, names: Sequence[str]) -> Goal:
    """Compares both knobs with the cap alone: fewer violations of all kinds, or more tok/J."""
    name = f"beats {restricted} (cap only) where the batch limit matters"
    parts, better = [], []
    for scenario in names:
        gain = difference(results, subject, restricted, TOKENS_PER_JOULE_RELATIVE, [scenario])
        rates = [
            difference(results, subject, restricted, key, [scenario])
            for key in (WITHIN_BUDGET, "slo_violation_rate")
        ]
        known = [rate for rate in rates if rate is not None]
        if gain is None:
            continue
        fewer = sum(rate.value for rate in known)
        parts.append(
            f"{scenario} efficiency {gain.value:+.3f}, violations {100 * fewer:+.1f} points"
        )
        better.append(fewer <= 0 and gain.value >= 0 and (fewer < 0 or gain.value > 0))
    return Goal(name, "; ".join(parts) or "no such scenario", all(better) if better else None)


def _mean(results: Results, scenario: str, controller: str, key: str) -> float:
    values = column(results, scenario, controller, key)
    return float("nan") if values is None else float(values.mean())
