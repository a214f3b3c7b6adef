"""Fronts out of the rows of a benchmark, and what they reach of what is possible."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.benchmarking.metrics import BASELINE, Results, column
from experiments.evaluation.fronts import (
    CLOCK,
    NO_CHOICE,
    Episodes,
    FloatArray,
    FrontStatistics,
    efficiency_at,
    front,
    front_statistics,
    with_clock,
    without_clock,
)
from experiments.evaluation.metric_table import TOKENS_PER_JOULE_RELATIVE, WITHIN_BUDGET
from experiments.evaluation.statistics import RESAMPLES, Interval, probability_of_improvement

LIMITS = (0.01, 0.02, 0.05)
"""Rates of violations that fronts are compared at."""
ASKED = 1
"""Place of the limit that is asked for among :data:`LIMITS`."""
CLAIRVOYANT = "clairvoyant"
PLANNER = "mpc"
"""The planner on a twin that knows no future."""
_MARK = "#"
"""Stands in names of runs between a front and the number of the point."""


def episodes_of(
    results: Results, controllers: Sequence[str], scenarios: Sequence[str] | None = None
) -> Episodes:
    """Returns efficiency and violations of some controllers, each a point of one front.

    Args:
        results: All runs.
        controllers: Names of the points.
        scenarios: Scenarios to look at; ``None`` for all.
    """
    names = list(results) if scenarios is None else scenarios
    seeds = len(next(iter(results[names[0]].values())))
    tables = []
    for key in (TOKENS_PER_JOULE_RELATIVE, WITHIN_BUDGET):
        table = np.full((len(controllers), seeds, len(names)), np.nan)
        for point, controller in enumerate(controllers):
            for place, name in enumerate(names):
                values = column(results, name, controller, key)
                if values is not None:
                    table[point, :, place] = values
        tables.append(table)
    return Episodes(*tables)


class Front(NamedTuple):
    """A controller's front in a benchmark.

    Attributes:
        episodes: What its points did, in the scenarios that leave a choice.
        statistics: Efficiency at :data:`LIMITS`, hypervolume and band.
        headroom: Fraction of the gain of the clairvoyant that moves the same knobs, at equal
            violations, at each of :data:`LIMITS`; ``None`` where one of the two does not keep to
            the limit, or there is nothing to gain.
    """

    episodes: Episodes
    statistics: FrontStatistics
    headroom: list[Interval | None]


def point_name(front: str, number: int) -> str:
    """Returns the name under which a point's runs are kept."""
    return f"{front}{_MARK}{number}"


def is_point(name: str) -> bool:
    """Returns whether a name is that of a point, not of a controller as it is configured."""
    return _MARK in name


def is_planner(name: str) -> bool:
    """Returns whether a front is one of a planner's, whatever the knobs that it moves."""
    return without_clock(name) in (CLAIRVOYANT, PLANNER)


def is_variant(name: str, subject: str) -> bool:
    """Returns whether a front is the subject's, or that of the subject with another choice."""
    return name == subject or name.startswith(f"{subject}_")


def matched(name: str, rival: str, names: Container[str]) -> str:
    """Returns which front to compare with a rival's: one that moves the same knobs, if there is."""
    return with_clock(name) if CLOCK in rival and with_clock(name) in names else name


def scenarios_with_choice(results: Results) -> list[str]:
    """Returns the scenarios in which some controller is more efficient than Baseline.

    Where none is, all do the same, and a mean over such scenarios says nothing.
    """
    kept = []
    for name, runs in results.items():
        gains = [column(results, name, one, TOKENS_PER_JOULE_RELATIVE) for one in runs]
        if any(gain is not None and gain.mean() >= NO_CHOICE for gain in gains):
            kept.append(name)
    return kept


def kept_scenarios(results: Results) -> Results:
    """Returns the runs in the scenarios that leave a choice; all where none does."""
    names = scenarios_with_choice(results)
    return {name: results[name] for name in names} if names else results


def fronts_of(
    results: Results, points: Mapping[str, Sequence[str]], scenarios: Sequence[str] | None = None
) -> dict[str, Front]:
    """Returns the fronts of a benchmark.

    Args:
        results: All runs.
        points: Names of each front's points.
        scenarios: Scenarios to look at; ``None`` for those that leave a choice.
    """
    if scenarios is None:
        scenarios = scenarios_with_choice(results)
    if not any(column(results, name, BASELINE, WITHIN_BUDGET) is not None for name in scenarios):
        return {}
    episodes = {name: episodes_of(results, own, scenarios) for name, own in points.items()}
    found = {}
    for name, own in episodes.items():
        best = episodes.get(matched(CLAIRVOYANT, name, episodes))
        part: list[Interval | None] = [None] * len(LIMITS)
        if best is not None:
            part = Pair(own, best, LIMITS).headroom()
        found[name] = Front(own, front_statistics(own, LIMITS), part)
    return found


class Pair:
    """Two fronts at some levels of violations, over resampled episodes.

    Both are resampled by the same draws, so that what their episodes have in common cancels out.

    Args:
        own: One front.
        other: The one that it is compared with.
        limits: Rates of violations.
        resamples: Number of resamples.
    """

    def __init__(
        self,
        own: Episodes,
        other: Episodes,
        limits: Sequence[float],
        resamples: int = RESAMPLES,
    ) -> None:
        grid = np.asarray(limits, dtype=np.float64)
        self._mine, self._theirs = (_resampled(one, grid, resamples) for one in (own, other))
        self._means = [efficiency_at(*one.means(), grid) for one in (own, other)]

    def headroom(self) -> list[Interval | None]:
        """Returns which fraction the first one has of the second one's gain at each limit."""

        def fraction(mine: FloatArray, theirs: FloatArray) -> FloatArray:
            gain = theirs - 1.0
            return np.asarray((mine - 1.0) / np.where(gain > 0.01, gain, np.nan))

        return self._intervals(fraction)

    def difference(self) -> list[Interval | None]:
        """Returns how much more efficient the first one is at each limit."""
        return self._intervals(np.subtract)

    def above(self) -> FloatArray:
        """Returns how often the first one lies above the second one at each limit.

        Where a front does not keep to a limit in a resample, one that does is above it. So a rival
        that keeps to a limit by luck, in half of the resamples, is compared in that half and beaten
        in the other.
        """
        mine, theirs = self._mine, self._theirs
        return np.asarray((~np.isnan(mine) & ~(theirs >= mine)).mean(axis=0))

    def _intervals(
        self, compare: Callable[[FloatArray, FloatArray], FloatArray]
    ) -> list[Interval | None]:
        """Compares the two; ``None`` where one does not keep to the limit."""
        table, values = compare(self._mine, self._theirs), compare(*self._means)
        found: list[Interval | None] = []
        for value, resampled in zip(values.tolist(), table.T, strict=True):
            known = resampled[~np.isnan(resampled)]
            if np.isnan(value) or len(known) < 0.9 * len(table):
                found.append(None)
            else:
                found.append(Interval(value, *map(float, np.percentile(known, [2.5, 97.5]))))
        return found


def _resampled(episodes: Episodes, limits: FloatArray, resamples: int) -> FloatArray:
    """Returns a front's efficiency at some limits, shape ``(resamples, limits)``."""
    y, x = episodes.resampled(resamples, 0)
    return np.stack([efficiency_at(y[one], x[one], limits) for one in range(resamples)])


def operating_point(episodes: Episodes, limit: float) -> int | None:
    """Returns the most efficient point that keeps to a limit of violations; ``None`` if none."""
    efficiency, violations = episodes.means()
    kept = [point for point in front(efficiency, violations) if violations[point] <= limit]
    return kept[-1] if kept else None


def probability_at(own: Episodes, other: Episodes, limit: float) -> Interval | None:
    """Returns how likely an episode of one front beats one of another at equal violations.

    Each front is at the limit: the two points beside it take turns.
    """
    first, second = (_at(episodes, limit) for episodes in (own, other))
    return None if first is None or second is None else probability_of_improvement(first, second)


def _at(episodes: Episodes, limit: float) -> FloatArray | None:
    """Returns each episode's efficiency at a limit, shape ``(seeds, scenarios)``."""
    efficiency, violations = episodes.means()
    kept = front(efficiency, violations)
    rates = violations[kept]
    place = int(np.searchsorted(rates, limit, side="right")) - 1
    if place < 0:
        return None
    below: FloatArray = episodes.efficiency[kept[place]]
    if place + 1 == len(kept):
        return np.asarray(below)
    part = (limit - rates[place]) / (rates[place + 1] - rates[place])
    return np.asarray((1.0 - part) * below + part * episodes.efficiency[kept[place + 1]])
