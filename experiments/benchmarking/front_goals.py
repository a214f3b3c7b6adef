"""What the benchmark requires of a trained agent's front, and whether the front has it."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.benchmarking.criteria import Goal
from experiments.benchmarking.fronts import (
    ASKED,
    CLAIRVOYANT,
    LIMITS,
    PLANNER,
    Front,
    Pair,
    is_planner,
    is_variant,
    matched,
)
from experiments.evaluation.fronts import with_clock
from experiments.evaluation.statistics import Interval

AGENT_HEADROOM = 0.85
"""Fraction of the clairvoyant's gain that the agent has to reach at the limit asked for."""
TOGETHER_HEADROOM = 0.90
"""The same for the better one of agent and planner."""
LEVELS = tuple(percent / 100.0 for percent in range(1, 11))
"""Rates of violations at which the agent's front has to lie above every rival's."""

_CERTAIN = 0.975
"""Part of the resamples in which a front has to lie above another one: a 95 % interval's end."""


def front_goals(fronts: Mapping[str, Front], subject: str) -> list[Goal]:
    """Checks what is required of a front.

    Args:
        fronts: All fronts.
        subject: The agent.
    """
    if subject not in fronts:
        return []
    found = []
    for agent in (subject, with_clock(subject)):
        if agent in fronts and matched(CLAIRVOYANT, agent, fronts) in fronts:
            found.append(_headroom(fronts, [agent], AGENT_HEADROOM))
            planner = matched(PLANNER, agent, fronts)
            if planner in fronts:
                found.append(_headroom(fronts, [agent, planner], TOGETHER_HEADROOM))
    rivals = [name for name in fronts if not is_planner(name) and not is_variant(name, subject)]
    return [
        *found, *(_above(fronts, matched(subject, rival, fronts), rival) for rival in rivals),
    ]  # fmt: skip


def _headroom(fronts: Mapping[str, Front], names: list[str], least: float) -> Goal:
    parts = {name: fronts[name].headroom[ASKED] for name in names}
    known = {name: part for name, part in parts.items() if part is not None}
    who = " or ".join(f"`{name}`" for name in names)
    name = f"{who}: at least {least:.0%} of the clairvoyant's gain at {LIMITS[ASKED]:.0%} of "
    name += "violations"
    if not known:
        return Goal(name, "keeps to no such limit, or nothing is to be gained there", False)
    best = max(known, key=lambda one: known[one].value)
    part = known[best]
    text = f"{part.value:.0%} [{part.low:.0%}, {part.high:.0%}]"
    return Goal(name, f"`{best}` {text}" if len(names) > 1 else text, part.value >= least)


def _above(fronts: Mapping[str, Front], subject: str, rival: str) -> Goal:
    """Compares the fronts at every level; where the rival does not keep to one, it is below."""
    pair = Pair(fronts[subject].episodes, fronts[rival].episodes, LEVELS)
    below: list[str] = []
    open_levels: list[str] = []
    for level, above in zip(LEVELS, pair.above(), strict=True):
        if above < _CERTAIN:
            (below if above <= 1.0 - _CERTAIN else open_levels).append(f"{100 * level:g}")
    known = [gap for gap in pair.difference() if gap is not None]
    parts = [_range(known)] if known else []
    if below:
        parts.append(f"below or not there at {', '.join(below)} %")
    if open_levels:
        parts.append(f"undecided at {', '.join(open_levels)} %")
    return Goal(
        f"front of `{subject}` above that of `{rival}` at 1 to 10 % of violations, intervals apart",
        "; ".join(parts) or "`" + rival + "` keeps to none of these limits",
        not below and not open_levels,
    )


def _range(gaps: list[Interval]) -> str:
    values = [gap.value for gap in gaps]
    return f"efficiency {min(values):+.3f} to {max(values):+.3f}"
