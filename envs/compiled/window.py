"""Mean rate over a sliding window, compiled: for the control loop and for evaluation.

The amounts are whole numbers (tokens, requests), so that the running sum is exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.compiled.jit import entry_point, inlined
from envs.compiled.records import Floats


@inlined
def slide(ring: Floats, window: int, place: int, total: float, amount: float) -> float:
    """Moves a window on by one interval; returns the new sum of its amounts.

    Args:
        ring: The last amounts of some windows, shape ``(windows, length)``; gets the new one.
        window: Which window.
        place: Where its oldest amount lies.
        total: Sum of its amounts.
        amount: The amount of the new interval.
    """
    total += amount - ring[window, place]
    ring[window, place] = amount
    return total


@inlined
def mean_rate(total: float, seen: int, interval_s: float) -> float:
    """Returns the rate per second of a window of ``seen`` intervals."""
    return total / (seen * interval_s)


def windowed_rates(
    amounts: NDArray[np.float64], window_s: float, interval_s: float
) -> NDArray[np.float64]:
    """Returns the mean rate over the last ``window_s`` seconds at the end of each interval.

    Until the window is full the mean goes over what has been seen.

    Args:
        amounts: Amount per interval, shape ``(intervals,)``; whole numbers.
        window_s: Length of the window in seconds.
        interval_s: Length of an interval in seconds.

    Returns:
        Rates per second, shape ``(intervals,)``.
    """
    rates = np.empty(len(amounts))
    ring = np.zeros((1, window_length(window_s, interval_s)))
    _windowed_rates(np.ascontiguousarray(amounts, dtype=np.float64), ring, interval_s, rates)
    return rates


def window_length(window_s: float, interval_s: float) -> int:
    """Returns the number of intervals in a window, at least one."""
    return max(1, round(window_s / interval_s))


@entry_point()
def _windowed_rates(amounts: Floats, ring: Floats, interval_s: float, rates: Floats) -> None:
    length = ring.shape[1]
    total = 0.0
    for index in range(len(amounts)):
        total = slide(ring, 0, index % length, total, amounts[index])
        rates[index] = mean_rate(total, min(index + 1, length), interval_s)
