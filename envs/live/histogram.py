"""Histograms as Prometheus tells them: how many samples lie up to each of some bounds."""

from __future__ import annotations

import math
from typing import NamedTuple


class Histogram(NamedTuple):
    """A histogram's state, or what was added to it over an interval.

    Attributes:
        bounds: Upper bounds of the buckets, ascending, the last infinite.
        counts: Samples up to each bound.
        total: Sum of all samples.
    """

    bounds: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()
    total: float = 0.0

    @property
    def samples(self) -> float:
        """Number of samples."""
        return self.counts[-1] if self.counts else 0.0

    @property
    def mean(self) -> float:
        """Mean of the samples; 0 when there are none."""
        return self.total / self.samples if self.samples else 0.0

    def minus(self, earlier: Histogram) -> Histogram:
        """Returns what was added since ``earlier``."""
        if earlier.bounds != self.bounds:
            return self
        counts = tuple(now - then for now, then in zip(self.counts, earlier.counts, strict=True))
        return Histogram(self.bounds, counts, self.total - earlier.total)

    def plus(self, other: Histogram) -> Histogram:
        """Returns the samples of both; buckets must be the same, or one of them empty."""
        if not self.counts or not other.counts:
            return other if not self.counts else self
        counts = tuple(
            mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)
        )
        return Histogram(self.bounds, counts, self.total + other.total)

    def percentile(self, q: float) -> float:
        """Returns the ``q``-th percentile (0 to 100); 0 if there are no samples.

        It is interpolated within its bucket, so it is known no better than that bucket is wide;
        of samples beyond the last finite bound only that is known, and it is that bound.
        """
        rank = self.samples * q / 100.0
        below, lower = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= rank and count > below:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * (rank - below) / (count - below)
            below, lower = count, bound
        return 0.0

    def bound_for(self, limit: float) -> float:
        """Returns the bound by which samples are told apart that should be told by ``limit``.

        The smallest bound that is not below it, so that never too many are said to exceed it;
        the last finite bound where there is none, and then some may be said to that do not.
        """
        finite = [bound for bound in self.bounds if not math.isinf(bound)]
        above = [bound for bound in finite if bound >= limit * (1.0 - 1e-9)]
        return min(above, default=max(finite, default=limit))

    def above(self, limit: float) -> float:
        """Returns how many samples exceed :meth:`bound_for` a limit; exact, not interpolated."""
        if not self.counts:
            return 0.0
        return self.samples - self.counts[self.bounds.index(self.bound_for(limit))]
