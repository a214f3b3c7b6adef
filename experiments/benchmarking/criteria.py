"""What the benchmark asks of a trained agent, and whether it does it."""

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
from experiments.evaluation.batched_rollout import WITHIN_BUDGET
from experiments.evaluation.suites import SuiteScenario

RIVALS = ("pals", "pals_symmetric", "governor")
PALS = "pals"
QOS_LIMIT = 0.02
SERVED = 0.99
"""Fraction of Baseline's tokens below which an agent is taken to starve requests."""
ROTTEN = 0.10
"""Violation rate at which a setting is taken to be given up."""
RESTLESS = 60.0
"""Knob changes per minute (every other interval) above which an agent is taken to flap."""


class Goal(NamedTuple):
    """One thing asked of the agent.

    Attributes:
        name: What is asked.
        found: What was found, in words and numbers.
        met: Whether that is enough; ``None`` when it could not be looked at.
    """

    name: str
    found: str
    met: bool | None


def goals(
    results: Results,
    settings: Mapping[str, SuiteScenario],
    subject: str,
    restricted: str | None,
) -> list[Goal]:
    """Checks all goals.

    Args:
        results: All runs.
        settings: The suite's settings.
        subject: The agent.
        restricted: The agent that may set the cap only, if there is one.
    """
    known = set(next(iter(results.values())))
    found = [_dominates(results, subject, rival) for rival in RIVALS if rival in known]
    found += [
        _violations(results, subject, "qos_violation_rate", "beside a Baseline without budget"),
        _violations(results, subject, WITHIN_BUDGET, "beside one that keeps to the budget"),
    ]
    if PALS in known:
        found += [_ttft(results, subject), _no_loss(results, subject)]
    if ORACLE in known:
        moving = [name for name, setting in settings.items() if setting.load_moves]
        found.append(_headroom(results, subject, [name for name in moving if name in results]))
    if restricted is not None and restricted in known:
        names = [n for n, setting in settings.items() if setting.batch_matters and n in results]
        found.append(_second_knob(results, subject, restricted, names))
    return found


def degeneracies(results: Results, subject: str) -> list[Goal]:
    """Looks for policies that only seem good."""
    names = list(results)
    served = {name: _mean(results, name, subject, "served") for name in names}
    least = min(served, key=lambda name: served[name])
    rates = {
        name: _mean(results, name, subject, WITHIN_BUDGET)
        for name in names
        if column(results, name, subject, WITHIN_BUDGET) is not None
    }
    changes = {name: _mean(results, name, subject, "changes") for name in names}
    most = max(changes, key=lambda name: changes[name])
    found = [
        Goal(
            f"serves at least {SERVED:.0%} of Baseline's tokens in every setting",
            f"least {served[least]:.1%} ({least})",
            served[least] >= SERVED,
        ),
        Goal(
            f"changes the knobs fewer than {RESTLESS:.0f} times a minute in every setting",
            f"most {changes[most]:.0f} ({most})",
            changes[most] < RESTLESS,
        ),
    ]
    if rates:
        worst = max(rates, key=lambda name: rates[name])
        found.append(
            Goal(
                f"lets no setting rot (QoS violations within budget at most {ROTTEN:.0%} in each)",
                f"most {rates[worst]:.1%} ({worst})",
                rates[worst] <= ROTTEN,
            )
        )
    return found


def _dominates(results: Results, subject: str, rival: str) -> Goal:
    efficiency = difference(results, subject, rival, "efficiency")
    violations = difference(results, subject, rival, "qos_violation_rate")
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


def _violations(results: Results, subject: str, key: str, beside: str) -> Goal:
    figure = overall(results, subject, key)
    name = f"QoS violations at most {QOS_LIMIT:.0%} on average, {beside}"
    if figure is None:
        return Goal(name, "no setting has a target", None)
    rate = figure.mean
    text = f"{rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}]"
    return Goal(name, text, rate.value <= QOS_LIMIT)


def _ttft(results: Results, subject: str) -> Goal:
    """Compares TTFT as a geometric mean of ratios: settings differ by orders of magnitude."""
    ratios = []
    for setting in results:
        own = column(results, setting, subject, "ttft_p99_s")
        other = column(results, setting, PALS, "ttft_p99_s")
        if own is not None and other is not None:
            ratios.append(float(np.log(own / other).mean()))
    ratio = float(np.exp(np.mean(ratios)))
    return Goal(
        f"TTFT p99 no worse than that of {PALS}",
        f"{ratio:.2f} times as long (geometric mean over settings)",
        ratio <= 1.0,
    )


def _no_loss(results: Results, subject: str) -> Goal:
    """Looks for settings where the agent loses efficiency and gains nothing in QoS for it."""
    lost = []
    for setting in results:
        ratio = _mean(results, setting, subject, "efficiency") / _mean(
            results, setting, PALS, "efficiency"
        )
        gained = difference(results, subject, PALS, "qos_violation_rate", [setting])
        fewer = gained is not None and gained.high < 0
        if ratio < 0.98 and not fewer:
            lost.append(f"{setting} ({ratio - 1:+.1%})")
    return Goal(
        f"in no setting over 2 % less efficient than {PALS} without fewer violations",
        ", ".join(lost) or "none",
        not lost,
    )


def _headroom(results: Results, subject: str, names: Sequence[str]) -> Goal:
    fractions = {name: headroom(results, name, subject) for name in names}
    found = {name: fraction for name, fraction in fractions.items() if fraction is not None}
    name = "at least 100 % of the static oracle's headroom wherever the load moves"
    if not found:
        return Goal(name, "no such setting", None)
    text = ", ".join(f"{key} {fraction.value:.0%}" for key, fraction in found.items())
    return Goal(name, text, all(fraction.value >= 1.0 for fraction in found.values()))


def _second_knob(results: Results, subject: str, restricted: str, names: Sequence[str]) -> Goal:
    """Compares both knobs with the cap alone: fewer violations of all kinds, or more tok/J."""
    name = f"beats {restricted} (cap only) where the batch limit matters"
    parts, better = [], []
    for setting in names:
        gain = difference(results, subject, restricted, "efficiency", [setting])
        rates = [
            difference(results, subject, restricted, key, [setting])
            for key in ("qos_violation_rate", "slo_violation_rate")
        ]
        known = [rate for rate in rates if rate is not None]
        if gain is None:
            continue
        fewer = sum(rate.value for rate in known)
        parts.append(
            f"{setting} efficiency {gain.value:+.3f}, violations {100 * fewer:+.1f} points"
        )
        better.append(fewer <= 0 and gain.value >= 0 and (fewer < 0 or gain.value > 0))
    return Goal(name, "; ".join(parts) or "no such setting", all(better) if better else None)


def _mean(results: Results, setting: str, controller: str, key: str) -> float:
    values = column(results, setting, controller, key)
    return float("nan") if values is None else float(values.mean())
