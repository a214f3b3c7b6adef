"""Throughput at the same power target, by controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas

from experiments.evaluation.metrics import Summary
from experiments.evaluation.statistics import FloatArray
from experiments.figures.base import Row
from experiments.figures.claims import interval_of
from experiments.figures.episodes import FinishedRun
from experiments.figures.operating_point import OperatingPoint, server_spec_of

BASE = "static_dynamic_cap"
"""The rival: a static batch of 64 whose cap follows the power target."""
_METRICS = (
    "power_tracking_error_w",
    "budget_overshoot_rate",
    "power_in_scope_mean_w",
    "throughput_tok_s",
)


@dataclass(frozen=True)
class DemandResponse:
    """Runs of one variant.

    Attributes:
        bins: Bins of the power target, by its quantiles.
        series: Intervals of each run, as :func:`cluster_series` returns them.
    """

    bins: int
    series: Mapping[FinishedRun, pandas.DataFrame]

    @property
    def controllers(self) -> list[str]:
        """Names of the controllers, in order of the runs."""
        return list(dict.fromkeys(run.controller for run in self.series))

    def of(self, name: str, seed: int | None = None) -> pandas.DataFrame:
        """Returns the intervals of a controller's run; of the first seed for ``None``."""
        wanted = min(run.seed for run in self.series) if seed is None else seed
        return next(
            own for run, own in self.series.items() if run.controller == name and run.seed == wanted
        )

    def summaries(self, name: str) -> list[Summary]:
        """Returns the metrics of a controller's runs."""
        return [run.summary for run in self.series if run.controller == name]

    def gains(self, name: str) -> tuple[FloatArray, FloatArray]:
        """Returns mean power target of each bin and gains of shape ``(bins, seeds)``.

        A gain is the controller's throughput over that of :data:`BASE`, less 1, in the
        intervals in which the power target lies in the bin.
        """
        targets, gains = [], []
        for seed in sorted({run.seed for run in self.series}):
            own, base = self.of(name, seed), self.of(BASE, seed)
            bins = pandas.qcut(base["budget_w"], self.bins, labels=False, duplicates="drop")
            targets.append(base["budget_w"].groupby(bins).mean().to_numpy())
            rate, base_rate = (
                table["throughput_tok_s"].groupby(bins).mean() for table in (own, base)
            )
            gains.append((rate / base_rate).to_numpy() - 1.0)
        return np.mean(targets, axis=0), np.array(gains).T

    def rows(self) -> list[Row]:
        """Returns gains and metrics by controller and power target."""
        rows: list[Row] = []
        for name in self.controllers:
            summaries = self.summaries(name)
            metrics = {key: float(np.mean([s[key] for s in summaries])) for key in _METRICS}
            targets, gains = self.gains(name)
            for target, gain in zip(targets, gains, strict=True):
                own = interval_of(gain)
                rows.append(
                    {
                        "controller": name,
                        "power_target_w": target,
                        "throughput_gain": own.value,
                        "throughput_gain_low": own.low,
                        "throughput_gain_high": own.high,
                        **metrics,
                    }
                )
        return rows


def cluster_series(run: FinishedRun) -> pandas.DataFrame:
    """Returns budget, power and summed throughput of a cluster's run by interval."""
    rows = run.intervals()
    grouped = rows.groupby("time_s", sort=True)
    table = grouped[["cluster_budget_w", "cluster_power_w"]].first()
    table.columns = pandas.Index(["budget_w", "power_w"])
    table["throughput_tok_s"] = grouped["throughput_tok_s"].sum()
    return table.reset_index()


def cache_ratio(model: str, gpu: str, tensor: int, batch: int) -> float:
    """Returns the KV cache of a server over what a batch of the longest requests takes."""
    server_spec = server_spec_of(OperatingPoint(model, 0.0, batch, tensor=tensor, gpu=gpu))
    cache = server_spec.spec.kv_blocks * server_spec.spec.block_size
    return float(cache / (batch * server_spec.model.max_model_len))
