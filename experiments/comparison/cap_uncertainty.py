"""A comparison over the range of what is not known of a GPU's response to a power cap.

How an A100 or H100 slows down under a cap is measured nowhere in public. The calibration gives
ranges for it; here the same controllers run on the same seeds at points spread over these ranges,
so that a result is an interval, and a conclusion one that holds at every point or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from envs import catalog
from envs.errors import ConfigurationError
from envs.simulator.calibration import Calibration
from envs.simulator.gpus import GPUSpec
from experiments.comparison.runner import PlannedRun, aggregate, metric_rows
from experiments.evaluation.metric_table import TOKENS_PER_JOULE_RELATIVE
from experiments.evaluation.metrics import Summary
from experiments.reporting.markdown import markdown_table

RESPONSE = (
    "clock_power_floor_w", "clock_linear_fraction", "clock_exponent", "memory_clock_knee",
    "launch_clock_fraction", "cap_settling_s", "limit_window_s",
)  # fmt: skip
"""Coefficients of the response to a cap."""
VIOLATIONS = "qos_violation_rate"
FIGURES = (TOKENS_PER_JOULE_RELATIVE, VIOLATIONS)
"""Metrics that are given as intervals."""
NOMINAL = "nominal"


@dataclass(frozen=True)
class Point:
    """One choice of the unknown coefficients.

    Attributes:
        name: Short name; :data:`NOMINAL` is the calibration as installed.
        coefficients: Values by name; empty for the nominal one.
    """

    name: str
    coefficients: Mapping[str, float]


def points(gpu: GPUSpec, count: int, seed: int) -> list[Point]:
    """Returns the nominal point and ``count`` spread over the ranges (a Latin hypercube).

    Args:
        gpu: GPU type.
        count: Points besides the nominal one.
        seed: Seed of the draw.

    Raises:
        ConfigurationError: The GPU's response to caps was measured, so that nothing is open.
    """
    calibration: Calibration = catalog.build("calibration", gpu.calibration)
    bounds = {name: calibration.ranges[name] for name in RESPONSE if name in calibration.ranges}
    if "clock_linear_fraction" not in bounds:
        raise ConfigurationError(
            f"gpu: the response of {gpu.name!r} to caps was measured; choose one for which "
            "conf/calibration gives ranges"
        )
    rng = np.random.default_rng(seed)
    places = np.array([(rng.permutation(count) + rng.random(count)) / count for _ in bounds]).T
    found = [Point(NOMINAL, {})]
    for index, place in enumerate(places):
        values = {
            name: float(f"{low + fraction * (high - low):.4g}")
            for (name, (low, high)), fraction in zip(bounds.items(), place, strict=True)
        }
        found.append(Point(f"point_{index + 1}", values))
    return found


def spread(
    runs: Sequence[PlannedRun], chosen: Sequence[Point], gpu: GPUSpec, directory: Path
) -> list[PlannedRun]:
    """Returns every run at every point, point by point.

    Args:
        runs: Runs of a comparison.
        chosen: Where to run them.
        gpu: GPU type.
        directory: Folder that gets one folder for each point.
    """
    spread_runs = []
    for point in chosen:
        calibration = {"base": gpu.calibration, **point.coefficients}
        for run in runs:
            spread_runs.append(
                replace(
                    run,
                    scenario=replace(run.scenario, calibration=calibration),
                    directory=directory / point.name / run.directory.relative_to(directory),
                )
            )
    return spread_runs


def evaluated(
    chosen: Sequence[Point], runs_per_point: int, summaries: Sequence[Summary]
) -> dict[str, Any]:
    """Returns what every point gave, the interval over all, and which conclusions survive.

    Args:
        chosen: The points, the nominal one first.
        runs_per_point: Runs of the comparison.
        summaries: Summaries in the order of :func:`spread`.

    Returns:
        ``points``: coefficients and, per controller and metric, the mean over seeds (IQM);
        ``intervals``: per controller and metric the nominal value, the lowest and the highest;
        ``conclusions``: of each pair of controllers that the nominal point tells apart, the
        one that serves more tokens per joule, at how many points, and whether at all.
    """
    results: list[dict[str, Any]] = []
    for index, point in enumerate(chosen):
        part = summaries[index * runs_per_point : (index + 1) * runs_per_point]
        means = {
            name: {key: _mean(metrics.get(key)) for key in FIGURES}
            for name, metrics in aggregate(metric_rows(part))["controllers"].items()
        }
        results.append(
            {"name": point.name, "coefficients": dict(point.coefficients), "controllers": means}
        )
    names = list(results[0]["controllers"])
    intervals = {
        name: {key: _interval([r["controllers"][name][key] for r in results]) for key in FIGURES}
        for name in names
    }
    return {
        "points": results,
        "intervals": intervals,
        "conclusions": _conclusions(names, results),
    }


def _mean(found: Mapping[str, Any] | None) -> float | None:
    return None if found is None else float(found["iqm"])


def _interval(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if values[0] is None or not known:
        return None
    return {"nominal": values[0], "lowest": min(known), "highest": max(known)}


def _conclusions(
    names: Sequence[str], results: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    found = []
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            gains = []
            for result in results:
                values = [
                    result["controllers"][name][TOKENS_PER_JOULE_RELATIVE] for name in (one, other)
                ]
                if None not in values:
                    gains.append(values[0] - values[1])
            if not gains or gains[0] == 0.0:
                continue
            better, worse = (one, other) if gains[0] > 0.0 else (other, one)
            agreeing = sum(gain * gains[0] > 0.0 for gain in gains)
            found.append(
                {
                    "better": better,
                    "worse": worse,
                    "points": len(gains),
                    "agreeing": agreeing,
                    "survives": agreeing == len(gains),
                }
            )
    return found


def interval_tables(result: Mapping[str, Any]) -> str:
    """Returns intervals and conclusions as Markdown tables."""
    rows = []
    for name, metrics in result["intervals"].items():
        cells = [name]
        for key in FIGURES:
            interval = metrics[key]
            cells.append(
                "–"
                if interval is None
                else f"{interval['nominal']:.3f} [{interval['lowest']:.3f}, "
                f"{interval['highest']:.3f}]"
            )
        rows.append(cells)
    head = ["controller", "tokens/J relative to Baseline", "QoS violation rate"]
    verdicts = [
        [
            f"{c['better']} serves more tokens per joule than {c['worse']}",
            f"{c['agreeing']} of {c['points']}",
            "yes" if c["survives"] else "**no**",
        ]
        for c in result["conclusions"]
    ]
    return "\n\n".join(
        [
            markdown_table(head, rows),
            markdown_table(["conclusion", "holds at", "survives all"], verdicts),
        ]
    )
