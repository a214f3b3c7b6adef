"""Statistics over few runs: interquartile means, bootstrap intervals, pairwise comparison.

The measures are those that Agarwal et al. recommend for comparing agents from a handful of
runs ("Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021).
Scores are arrays of shape ``(runs, tasks)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Statistic = Callable[[FloatArray], FloatArray]
RESAMPLES = 2000
_CHUNK = 4_000_000


class Interval(NamedTuple):
    """A statistic with its bootstrap interval.

    Attributes:
        value: The statistic of the scores.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float


def known_mean(values: Iterable[float | None]) -> float | None:
    """Returns the mean of the values that are known; ``None`` where none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def interquartile_mean(scores: FloatArray) -> FloatArray:
    """Returns the mean of the middle half of all scores: runs and tasks together.

    A quarter of the scores, rounded down, is left out at either end.

    Args:
        scores: Shape ``(..., runs, tasks)``.

    Returns:
        Shape ``(...)``.
    """
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(axis=-1))


def bootstrap(
    scores: FloatArray,
    statistic: Statistic = interquartile_mean,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Interval:
    """Returns a statistic and its stratified percentile-bootstrap interval.

    Runs are drawn again with replacement within each task (stratum), never across tasks.

    Args:
        scores: Shape ``(runs, tasks)``; one-dimensional scores are runs of one task.
        statistic: Maps ``(..., runs, tasks)`` to ``(...)``.
        seed: Seed of the draws.
        resamples: Number of resamples.
        confidence: Fraction of the resamples within the interval.

    Raises:
        ValueError: There are no scores, or one is not finite.
    """
    table = _table(scores)
    values = _resampled([table], lambda drawn: statistic(drawn[0]), seed, resamples)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return Interval(float(statistic(table)), float(low), float(high))


def probability_of_improvement(
    scores: FloatArray,
    others: FloatArray,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> Interval:
    """Returns how likely a random run scores higher than a random run of another method.

    Equal scores count half; the probability is averaged over tasks.

    Args:
        scores: Shape ``(runs, tasks)``.
        others: Scores of the other method, shape ``(other runs, tasks)``.
        seed: Seed of the draws.
        resamples: Number of resamples.
        confidence: Fraction of the resamples within the interval.

    Raises:
        ValueError: There are no scores, one is not finite, or the tasks differ in number.
    """
    first, second = _table(scores), _table(others)
    if first.shape[1] != second.shape[1]:
        raise ValueError("both methods need scores on the same tasks")
    values = _resampled([first, second], lambda drawn: _improvement(*drawn), seed, resamples)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(values, [tail, 100.0 - tail])
    return Interval(float(_improvement(first, second)), float(low), float(high))


def _improvement(scores: FloatArray, others: FloatArray) -> FloatArray:
    difference = scores[..., :, None, :] - others[..., None, :, :]
    wins = (difference > 0) + 0.5 * (difference == 0)
    return np.asarray(wins.mean(axis=(-3, -2, -1)))


def _table(scores: FloatArray) -> FloatArray:
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ValueError("scores must be a non-empty table (runs, tasks) of finite numbers")
    return table


def _resampled(
    tables: list[FloatArray],
    statistic: Callable[[list[FloatArray]], FloatArray],
    seed: int,
    resamples: int,
) -> FloatArray:
    """Returns the statistic of resampled tables, in chunks that bound the memory."""
    rng = np.random.default_rng(seed)
    size = max(table.size for table in tables) * max(len(table) for table in tables)
    chunk = max(1, min(resamples, _CHUNK // size))
    parts = []
    for begin in range(0, resamples, chunk):
        count = min(chunk, resamples - begin)
        drawn = []
        for table in tables:
            runs, tasks = table.shape
            index = rng.integers(runs, size=(count, runs, tasks))
            drawn.append(table[index, np.arange(tasks)])
        parts.append(statistic(drawn))
    return np.concatenate(parts)
