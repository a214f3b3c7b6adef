"""The sentence that a comparison of fronts begins with."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.benchmarking.criteria import PALS
from experiments.benchmarking.fronts import (
    ASKED,
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
from experiments.reporting.numbers import interval_text

QUESTION = "Does a learned controller beat PALS, and by how much of what was possible?"


def answer(fronts: Mapping[str, Front], subject: str, place: int = ASKED) -> str:
    """Returns the sentences that say whether the agent beats PALS at equal violations.

    PALS is the best of all fronts of its kind; what was possible is the clairvoyant's gain.

    Args:
        fronts: All fronts.
        subject: The agent.
        place: Which of the limits.
    """
    kin = [name for name in fronts if PALS in name]
    if subject not in fronts or not kin:
        return f"No front of `{subject}` and PALS was run, so neither is said to beat the other."
    limit = _percent(LIMITS[place])
    mine = fronts[subject].statistics.at[place]
    if mine is None:
        least = float(fronts[subject].episodes.means()[1].min())
        text = (
            f"**{QUESTION} Not at {limit} of violations: `{subject}` does not keep to {limit} "
            f"reliably, its fewest are {100 * least:.2g} %.**"
        )
        later = place + 1
        if later < len(LIMITS) and fronts[subject].statistics.at[later] is not None:
            text += f" {_sentence(fronts, subject, kin, later)}"
        return text
    said = _sentence(fronts, subject, kin, place) + _turned(fronts, subject, kin, place)
    return (
        f"**{QUESTION} {said}**{_planner(fronts, subject, place)}"
        f"{_rivals(fronts, subject, kin, place)}{_clock(fronts, subject, place)}"
    )


def _sentence(fronts: Mapping[str, Front], subject: str, kin: list[str], place: int) -> str:
    limit = _percent(LIMITS[place])
    unit = " times Baseline's tokens per joule"
    own = f"`{subject}` has {_short(fronts[subject], place, unit)}"
    known = {}
    for name in kin:
        at = fronts[name].statistics.at[place]
        if at is not None:
            known[name] = at.value
    if not known:
        return f"Yes: at {limit} of violations {own}, and no front of PALS keeps to that limit."
    best = max(known, key=lambda name: known[name])
    gap = _gap(fronts[subject], fronts[best], place)
    assert gap is not None
    verdict = "Yes" if gap.low > 0.0 else "No" if gap.high < 0.0 else "It is not decided"
    signed = f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
    return (
        f"{verdict}: at {limit} of violations {own}; `{best}`, the best front of PALS, has "
        f"{_short(fronts[best], place)}. The difference is {signed}."
    )


def _turned(fronts: Mapping[str, Front], subject: str, kin: list[str], place: int) -> str:
    """Returns at which looser limit a front of PALS is ahead: one limit alone may flatter."""
    for later in range(place + 1, len(LIMITS)):
        found = _furthest_ahead(fronts, subject, kin, later)
        if found is not None:
            best, gap = found
            return (
                f" At {_percent(LIMITS[later])}, though, `{best}` is ahead by {gap.value:.3f} "
                f"[{gap.low:.3f}, {gap.high:.3f}]."
            )
    return ""


def _rivals(fronts: Mapping[str, Front], subject: str, kin: list[str], place: int) -> str:
    """Returns which front is ahead, of those that are neither PALS's nor a planner's."""
    others = [
        name
        for name in fronts
        if name not in kin and not is_variant(name, subject) and not is_planner(name)
    ]
    for later in range(place, len(LIMITS)):
        found = _furthest_ahead(fronts, subject, others, later)
        if found is not None:
            best, gap = found
            return (
                f" Of all other rivals `{best}` is furthest ahead of "
                f"`{matched(subject, best, fronts)}` at "
                f"{_percent(LIMITS[later])}: by {gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}]."
            )
    return ""


def _furthest_ahead(
    fronts: Mapping[str, Front], subject: str, rivals: list[str], place: int
) -> tuple[str, Interval] | None:
    """Returns which rival is surely ahead at a limit, and by how much; ``None`` where none is."""
    ahead = {}
    for name in rivals:
        gap = _gap(fronts[name], fronts[matched(subject, name, fronts)], place)
        if gap is not None and gap.low > 0.0:
            ahead[name] = gap
    best = max(ahead, key=lambda name: ahead[name].value, default=None)
    return None if best is None else (best, ahead[best])


def _gap(own: Front, other: Front, place: int) -> Interval | None:
    """Returns how much more efficient one front is at a limit than another one."""
    return Pair(own.episodes, other.episodes, [LIMITS[place]]).difference()[0]


def _planner(fronts: Mapping[str, Front], subject: str, place: int) -> str:
    """Returns whether the agent beats the planner on a twin, too, which learns no policy."""
    if PLANNER not in fronts:
        return ""
    gap = _gap(fronts[subject], fronts[PLANNER], place)
    if gap is None:
        return f" The planner `{PLANNER}` does not keep to that limit."
    word = "beats" if gap.low > 0.0 else "does not beat"
    if gap.low <= 0.0 <= gap.high:
        word = "cannot be told from"
    return (
        f" It {word} the planner on a twin, `{PLANNER}`, which has "
        f"{_short(fronts[PLANNER], place)} (difference {gap.value:+.3f} "
        f"[{gap.low:+.3f}, {gap.high:+.3f}])."
    )


def _clock(fronts: Mapping[str, Front], subject: str, place: int) -> str:
    """Returns what the agent and the best rival reach where the clock is a knob."""
    own = with_clock(subject)
    if own not in fronts or fronts[own].statistics.at[place] is None:
        return ""
    text = (
        f" With the SM clock as a knob, which PALS does not have, `{own}` has "
        f"{_short(fronts[own], place)}"
    )
    planner = with_clock(PLANNER)
    if planner in fronts and fronts[planner].statistics.at[place] is not None:
        text += f", `{planner}` {_short(fronts[planner], place)}"
    return f"{text}."


def _short(front: Front, place: int, unit: str = "") -> str:
    at, part = front.statistics.at[place], front.headroom[place]
    assert at is not None
    text = f"{interval_text(at)}{unit}"
    return (
        text if part is None else f"{text}, {interval_text(part, 100.0, 0)} % of what was possible"
    )


def _percent(rate: float) -> str:
    return f"{100 * rate:g} %"
