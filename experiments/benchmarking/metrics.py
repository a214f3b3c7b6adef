"""What a benchmark's runs add up to: figures per setting, over all settings, and in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.evaluation.batched_rollout import WITHIN_BUDGET
from experiments.evaluation.metrics import Summary
from experiments.evaluation.statistics import (
    RESAMPLES,
    FloatArray,
    Interval,
    Statistic,
    bootstrap,
    interquartile_mean,
    probability_of_improvement,
)

Results = Mapping[str, Mapping[str, Sequence[Summary]]]
"""Summaries by setting and controller, one a seed."""

BASELINE = "static"
ORACLE = "oracle"


class Figure(NamedTuple):
    """A figure that controllers are compared by.

    Attributes:
        key: Its name.
        title: Its name for people.
        factor: Factor into the unit shown.
    """

    key: str
    title: str
    factor: float


FIGURES = (
    Figure("efficiency", "tok/J relative", 1.0),
    Figure("efficiency_system", "node tok/J relative", 1.0),
    Figure("qos_violation_rate", "QoS viol. %", 100.0),
    Figure(WITHIN_BUDGET, "QoS viol. % within budget", 100.0),
    Figure("slo_violation_rate", "SLO viol. %", 100.0),
    Figure("budget_overshoot_rate", "over budget %", 100.0),
    Figure("ttft_p99_s", "TTFT p99 s", 1.0),
    Figure("tpot_p99_s", "TPOT p99 ms", 1e3),
    Figure("served", "tokens served relative", 1.0),
    Figure("changes", "knob changes / min", 1.0),
)
"""``efficiency``, ``efficiency_system`` and ``served`` are ratios to Baseline, seed by seed."""


def value(summary: Summary, base: Summary, key: str) -> float | None:
    """Returns a figure of an episode.

    Args:
        summary: The episode.
        base: What the Baseline strategy did in it.
        key: Key of a figure in :data:`FIGURES`, or of the summary.
    """
    if key == "efficiency":
        return float(summary["tokens_per_joule"] / base["tokens_per_joule"])
    if key == "efficiency_system":
        return float(summary["tokens_per_joule_system"] / base["tokens_per_joule_system"])
    if key == "served":
        return float(summary["output_tokens"] / base["output_tokens"])
    if key == "changes":
        return float(60.0 * summary["knob_changes"] / summary["duration_s"])
    return None if summary[key] is None else float(summary[key])


def column(results: Results, setting: str, controller: str, key: str) -> FloatArray | None:
    """Returns a figure of a controller in a setting by seed; ``None`` where it does not apply."""
    runs = results[setting]
    pairs = zip(runs[controller], runs[BASELINE], strict=True)
    values = [value(summary, base, key) for summary, base in pairs]
    known = [one for one in values if one is not None]
    return np.array(known) if len(known) == len(values) else None


def scores(
    results: Results, controller: str, key: str, settings: Sequence[str] | None = None
) -> FloatArray | None:
    """Returns a figure of a controller, shape ``(seeds, settings)``.

    Settings in which it does not apply are left out; ``None`` when it applies in none.
    """
    names = list(results) if settings is None else settings
    columns = [column(results, name, controller, key) for name in names]
    known = [one for one in columns if one is not None]
    return np.stack(known, axis=1) if known else None


def mean(table: FloatArray) -> FloatArray:
    """Returns the mean over runs and settings, shape ``(...)`` of ``(..., runs, settings)``."""
    return np.asarray(table.mean(axis=(-2, -1)))


class Overall(NamedTuple):
    """A figure of a controller over all settings.

    Attributes:
        iqm: Interquartile mean with its interval.
        mean: Mean with its interval: it does not forget the worst settings.
        worst: Mean of the setting where it is worst (the highest, and the lowest of ratios).
    """

    iqm: Interval
    mean: Interval
    worst: float


def overall(results: Results, controller: str, key: str) -> Overall | None:
    """Returns a figure of a controller over all settings in which it applies."""
    table = scores(results, controller, key)
    if table is None:
        return None
    by_setting = table.mean(axis=0)
    ratio = key in ("efficiency", "efficiency_system", "served")
    return Overall(
        bootstrap(table, interquartile_mean),
        bootstrap(table, mean),
        float(by_setting.min() if ratio else by_setting.max()),
    )


def difference(
    results: Results,
    subject: str,
    rival: str,
    key: str,
    settings: Sequence[str] | None = None,
    statistic: Statistic = mean,
) -> Interval | None:
    """Returns subject minus rival on the same episodes, with its interval.

    Args:
        results: All runs.
        subject: A controller.
        rival: Another one.
        key: The figure.
        settings: Settings to look at; ``None`` for all.
        statistic: What the paired differences are summed up by.
    """
    first = scores(results, subject, key, settings)
    second = scores(results, rival, key, settings)
    if first is None or second is None or first.shape != second.shape:
        return None
    return bootstrap(first - second, statistic)


def improvement(results: Results, subject: str, rival: str, key: str) -> Interval | None:
    """Returns how likely an episode of the subject scores higher than one of the rival."""
    first, second = scores(results, subject, key), scores(results, rival, key)
    if first is None or second is None or first.shape != second.shape:
        return None
    return probability_of_improvement(first, second)


def headroom(results: Results, setting: str, controller: str) -> Interval | None:
    """Returns the fraction of the oracle's gain over Baseline that a controller has in a setting.

    ``None`` when the oracle gains less than 1 %: there is nothing to capture.
    """
    own = column(results, setting, controller, "efficiency")
    best = column(results, setting, ORACLE, "efficiency")
    if own is None or best is None or best.mean() < 1.01:
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
