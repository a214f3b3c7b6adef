"""A metric over several seeds: its interquartile mean with a bootstrap interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.evaluation.statistics import bootstrap

CONFIDENCE = 0.95
NO_METRIC = frozenset({"controller", "seed", "power_source", "provenance"})
"""Keys of a summary that are no metrics."""


def aggregated(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Returns a metric over seeds; ``None`` where it does not apply to each of them.

    Args:
        values: One value per seed.

    Returns:
        ``iqm``, the ends ``ci_low`` and ``ci_high`` of a 95 % bootstrap interval, and
        ``values`` by seed.
    """
    known = [float(value) for value in values if value is not None]
    if len(known) < len(values):
        return None
    interval = bootstrap(np.array(known))
    return {
        "iqm": interval.value,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "values": known,
    }


def metric_names(summary: Mapping[str, Any]) -> list[str]:
    """Returns the keys of a summary that are metrics."""
    return [key for key in summary if key not in NO_METRIC]
