"""What a benchmark's runs add up to: metrics per scenario, over all scenarios, and in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.evaluation.fronts import NO_CHOICE
from experiments.evaluation.metric_table import (
    CHANGES_PER_MINUTE,
    METRICS,
    NODE_KWH_PER_MILLION_TOKENS,
    OUTPUT_TOKENS_RELATIVE,
    TOKENS_PER_JOULE_RELATIVE,
    TOKENS_PER_JOULE_SYSTEM_RELATIVE,
    WITHIN_BUDGET,
    metrics_of,
)
from experiments.evaluation.statistics import (
    RESAMPLES,
    FloatArray,
    Interval,
    Statistic,
    bootstrap,
    interquartile_mean,
    probability_of_improvement,
)

MetricRow = Mapping[str, Any]
"""Metrics of one episode by key."""
Results = Mapping[str, Mapping[str, Sequence[MetricRow]]]
"""Metrics by scenario and controller; one row per seed."""

BASELINE = "static"
ORACLE = "oracle"

COMPARED = metrics_of(
    TOKENS_PER_JOULE_RELATIVE, TOKENS_PER_JOULE_SYSTEM_RELATIVE, "qos_violation_rate",
    WITHIN_BUDGET, "slo_violation_rate", "budget_overshoot_rate", "ttft_p99_s", "tpot_p99_s",
    OUTPUT_TOKENS_RELATIVE, CHANGES_PER_MINUTE, NODE_KWH_PER_MILLION_TOKENS,
)  # fmt: skip
"""What controllers are compared by; relative metrics are ratios to Baseline, seed by seed."""
_RATIOS = {
    TOKENS_PER_JOULE_RELATIVE: "tokens_per_joule",
    TOKENS_PER_JOULE_SYSTEM_RELATIVE: "tokens_per_joule_system",
    OUTPUT_TOKENS_RELATIVE: "output_tokens",
}


def value(row: MetricRow, base: MetricRow, key: str) -> float | None:
    """Returns a metric of an episode.

    Args:
        row: The episode.
        base: What the Baseline strategy did in it.
        key: Key of a metric of :data:`COMPARED`, or of the row.
    """
    if key in _RATIOS:
        return float(row[_RATIOS[key]] / base[_RATIOS[key]])
    if key == CHANGES_PER_MINUTE:
        return float(60.0 * row["knob_changes"] / row["duration_s"])
    if key == NODE_KWH_PER_MILLION_TOKENS:
        per_joule = row["tokens_per_joule_system"]
        return 1e6 / (3.6e6 * float(per_joule)) if per_joule else None
    return None if row[key] is None else float(row[key])


def column(results: Results, scenario: str, controller: str, key: str) -> FloatArray | None:
    """Returns a controller's metric in a scenario by seed; ``None`` where it does not apply."""
    runs = results[scenario]
    pairs = zip(runs[controller], runs[BASELINE], strict=True)
    values = [value(row, base, key) for row, base in pairs]
    known = [one for one in values if one is not None]
    return np.array(known) if len(known) == len(values) else None


def scores(
    results: Results, controller: str, key: str, scenarios: Sequence[str] | None = None
) -> FloatArray | None:
    """Returns a controller's metric, shape ``(seeds, scenarios)``.

    Scenarios in which it does not apply are left out; ``None`` when it applies in none.
    """
    names = list(results) if scenarios is None else scenarios
    columns = [column(results, name, controller, key) for name in names]
    known = [one for one in columns if one is not None]
    return np.stack(known, axis=1) if known else None


def mean(table: FloatArray) -> FloatArray:
    """Returns the mean over runs and scenarios, shape ``(...)`` of ``(..., runs, scenarios)``."""
    return np.asarray(table.mean(axis=(-2, -1)))


class Overall(NamedTuple):
    """A controller's metric over all scenarios.

    Attributes:
        iqm: Interquartile mean with its interval.
        mean: Mean with its interval: it does not hide the worst scenarios.
        worst: Mean in the scenario where it is worst.
    """

    iqm: Interval
    mean: Interval
    worst: float


def overall(results: Results, controller: str, key: str) -> Overall | None:
    """Returns a controller's metric over all scenarios in which it applies."""
    table = scores(results, controller, key)
    if table is None:
        return None
    by_scenario = table.mean(axis=0).tolist()
    return Overall(
        bootstrap(table, interquartile_mean),
        bootstrap(table, mean),
        METRICS[key].worst(by_scenario),
    )


def difference(
    results: Results,
    subject: str,
    rival: str,
    key: str,
    scenarios: Sequence[str] | None = None,
    statistic: Statistic = mean,
) -> Interval | None:
    """Returns subject minus rival on the same episodes, with its interval.

    Args:
        results: All runs.
        subject: A controller.
        rival: Another one.
        key: The metric.
        scenarios: Scenarios to look at; ``None`` for all.
        statistic: What the paired differences are summed up by.
    """
    first = scores(results, subject, key, scenarios)
    second = scores(results, rival, key, scenarios)
    if first is None or second is None or first.shape != second.shape:
        return None
    return bootstrap(first - second, statistic)


def improvement(results: Results, subject: str, rival: str, key: str) -> Interval | None:
    """Returns how likely an episode of the subject scores higher than one of the rival."""
    first, second = scores(results, subject, key), scores(results, rival, key)
    if first is None or second is None or first.shape != second.shape:
        return None
    return probability_of_improvement(first, second)


def headroom(results: Results, scenario: str, controller: str) -> Interval | None:
    """Returns the fraction of the oracle's gain over Baseline that a controller has in a scenario.

    ``None`` when the oracle gains less than 1 %: there is nothing to capture.
    """
    own = column(results, scenario, controller, TOKENS_PER_JOULE_RELATIVE)
    best = column(results, scenario, ORACLE, TOKENS_PER_JOULE_RELATIVE)
    if own is None or best is None or best.mean() < NO_CHOICE:
        return None
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(own), size=(RESAMPLES, len(own)))
    fractions = _fraction(own[drawn], best[drawn])
    low, high = np.nanpercentile(fractions, [2.5, 97.5])
    return Interval(float(_fraction(own[None], best[None])[0]), float(low), float(high))


def _fraction(own: FloatArray, best: FloatArray) -> FloatArray:
    """Returns the ratio of mean gains, shape ``(samples,)``; NaN where nothing is gained."""
    gain = best.mean(axis=1) - 1.0
    return np.where(gain > 0, (own.mean(axis=1) - 1.0) / np.maximum(gain, 1e-9), np.nan)
