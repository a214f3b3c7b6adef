"""Whether the times of a trace can be what they seem to be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from envs.workloads.kept_requests import pieces

FEWEST = 10
"""Requests below which a rate says nothing."""
MOST_PER_S = 200.0
"""Mean rate above which one service's trace is more likely in another unit."""
LONGEST_GAP_S = 3600.0
"""Mean gap above which a trace is more likely in another unit."""
MOST_TIES = 20.0
"""Requests per instant above which times were most likely rounded."""


def doubts(time_s: NDArray[np.float64], *, unit_given: bool) -> Iterator[str]:
    """Yields what is odd about the times of a trace, with the numbers.

    Args:
        time_s: Ascending times in seconds after the first request, shape ``(n,)``.
        unit_given: Whether the user said what the times count.
    """
    count = len(time_s)
    span = float(time_s[-1])
    if count < FEWEST:
        return
    if span > 0.0 and not unit_given:
        if count / span > MOST_PER_S:
            yield (
                f"{count} requests within {span:.6g} s are {count / span:.0f} requests/s; if its "
                "times are seconds or milliseconds that were read as something smaller, set "
                "workload.time_unit to s or ms"
            )
        elif span / count > LONGEST_GAP_S:
            yield (
                f"{count} requests within {span:.6g} s are one in {span / count:.0f} s; if its "
                "times are milliseconds or less, set workload.time_unit to ms, us or ns"
            )
    if count / _instants(time_s) > MOST_TIES:
        instants = np.unique(time_s)
        step = float(np.median(np.diff(instants))) if len(instants) > 1 else 0.0
        yield (
            f"{count} requests arrive "
            + (f"at {len(instants)} instants, {step:g} s apart: " if step else "at one instant: ")
            + f"{count / len(instants):.0f} at a time. Were times rounded (a spreadsheet shows "
            "minutes)? workload.spread_ties=true spreads them"
        )


def _instants(time_s: NDArray[np.float64]) -> int:
    """Returns how many different times there are, without a copy of them."""
    different, previous_s = 0, -np.inf
    for piece in pieces(time_s):
        different += int(np.count_nonzero(np.diff(piece, prepend=previous_s)))
        previous_s = piece[-1]
    return different
