"""Fronts: a controller's efficiency at every level of violations, with bootstrap intervals.

A controller that trades efficiency for violations is a set of points, one for each choice of its
parameters. What it reaches at a limit is what its points have at or below it; between two points
there is a straight line, as both can be had in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.evaluation.statistics import RESAMPLES, Interval

FloatArray = NDArray[np.float64]
WORST_RATE = 0.10
"""Violations at which a front ends: no operator allows more."""
NO_CHOICE = 1.01
"""Efficiency that a controller has to reach for a scenario to leave a choice: below it nothing is
there to gain, and parts of a gain say nothing."""

CLOCK = "clock"
"""Part of the name of every front whose controller may move the SM clock."""


def with_clock(name: str) -> str:
    """Returns the name of the front of a controller that may move the SM clock, too."""
    return f"{name}_{CLOCK}"


def without_clock(name: str) -> str:
    """Returns the name of the front of the same controller that leaves the SM clock alone."""
    return name.removesuffix(f"_{CLOCK}")


class Episodes(NamedTuple):
    """What some choices of a controller's parameters did on the same episodes.

    Attributes:
        efficiency: Tokens per joule over Baseline's, shape ``(points, seeds, scenarios)``.
        violations: Rate of violations, the same shape; NaN in scenarios without a target.
    """

    efficiency: FloatArray
    violations: FloatArray

    def means(self) -> tuple[FloatArray, FloatArray]:
        """Returns each point's mean efficiency and violations, two arrays ``(points,)``."""
        return _mean(self.efficiency), _mean(self.violations)

    def resampled(self, resamples: int, seed: int) -> tuple[FloatArray, FloatArray]:
        """Returns the means of resampled episodes, two arrays ``(resamples, points)``.

        Seeds are drawn again within each scenario, the same ones for all points.
        """
        points, seeds, scenarios = self.efficiency.shape
        drawn = np.random.default_rng(seed).integers(seeds, size=(resamples, seeds, scenarios))
        columns = np.arange(scenarios)
        rates = np.empty((2, resamples, points))
        for point in range(points):
            for row, table in zip(rates, self, strict=True):
                row[:, point] = _mean(table[point][drawn, columns])
        return rates[0], rates[1]


def _mean(table: FloatArray) -> FloatArray:
    """Returns the mean over seeds and the scenarios in which a metric applies."""
    known = ~np.isnan(table).all(axis=tuple(range(table.ndim - 1)))
    return np.asarray(table[..., known].mean(axis=(-2, -1)))


def front(efficiency: FloatArray, violations: FloatArray) -> list[int]:
    """Returns the points that no other one dominates, by rising violations.

    Args:
        efficiency: Shape ``(points,)``.
        violations: Shape ``(points,)``.
    """
    kept: list[int] = []
    best = -np.inf
    for index in np.lexsort((-efficiency, violations)).tolist():
        if efficiency[index] > best:
            kept.append(index)
            best = efficiency[index]
    return kept


def thinned(efficiency: FloatArray, violations: FloatArray, most: int) -> list[int]:
    """Returns at most that many points of the front, spread evenly along it.

    The point with the fewest violations and the most efficient one are always among them.
    """
    kept = front(efficiency, violations)
    if len(kept) <= most:
        return kept
    x, y = violations[kept], efficiency[kept]
    length = np.hypot(np.diff(x) / np.ptp(x), np.diff(y) / np.ptp(y))
    along = np.concatenate([[0.0], np.cumsum(length)])
    wanted = np.linspace(0.0, along[-1], most)
    return [kept[i] for i in sorted({int(np.abs(along - place).argmin()) for place in wanted})]


def efficiency_at(efficiency: FloatArray, violations: FloatArray, limits: FloatArray) -> FloatArray:
    """Returns the efficiency at or below each limit; NaN where no point keeps to it."""
    kept = front(efficiency, violations)
    x, y = violations[kept], efficiency[kept]
    found = np.interp(limits, x, y)
    return np.asarray(np.where(limits < x[0], np.nan, found))


def hypervolume(efficiency: FloatArray, violations: FloatArray, worst: float = WORST_RATE) -> float:
    """Returns the mean gain over Baseline at a limit drawn from 0 to ``worst``.

    It is the area that the points dominate, above Baseline's efficiency and left of the worst
    rate, over that rate: 0.2 says 20 % more tokens per joule on average over the limits.
    """
    kept = [i for i in front(efficiency, violations) if violations[i] < worst]
    gains = np.maximum(efficiency[kept] - 1.0, 0.0)
    widths = np.diff([*violations[kept], worst])
    return float((gains * widths).sum() / worst)


class FrontStatistics(NamedTuple):
    """A front with its uncertainty.

    Attributes:
        at: Efficiency at or below each limit; ``None`` where no point keeps to it.
        hypervolume: See :func:`hypervolume`.
        low: Lower end of the band at each of :func:`limits_of_bands`; NaN where a tenth of the
            resamples or more does not keep to the limit.
        high: Upper end.
    """

    at: list[Interval | None]
    hypervolume: Interval
    low: FloatArray
    high: FloatArray


def limits_of_bands() -> FloatArray:
    """Returns the limits at which bands are computed."""
    return np.linspace(0.0, WORST_RATE, 51)


def front_statistics(
    episodes: Episodes,
    limits: Sequence[float],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> FrontStatistics:
    """Returns a controller's front with 95 % intervals of a bootstrap over episodes.

    Args:
        episodes: What its points did.
        limits: Limits of violations at which efficiency is wanted.
        resamples: Number of resamples.
        seed: Seed of the draws.
    """
    grid = np.concatenate([np.asarray(limits, dtype=np.float64), limits_of_bands()])
    drawn = episodes.resampled(resamples, seed)
    lines = np.stack([efficiency_at(y, x, grid) for y, x in zip(*drawn, strict=True)])
    areas = [hypervolume(y, x) for y, x in zip(*drawn, strict=True)]
    means = episodes.means()
    kept = np.isnan(lines).mean(axis=0) < 0.1
    low, high = np.full((2, len(grid)), np.nan)
    if kept.any():
        low[kept], high[kept] = np.nanpercentile(lines[:, kept], [2.5, 97.5], axis=0)
    value = efficiency_at(*means, grid)
    count = len(limits)
    return FrontStatistics(
        [
            Interval(float(value[i]), float(low[i]), float(high[i]))
            if np.isfinite([value[i], low[i]]).all()
            else None
            for i in range(count)
        ],
        Interval(hypervolume(*means), *map(float, np.percentile(areas, [2.5, 97.5]))),
        low[count:],
        high[count:],
    )
