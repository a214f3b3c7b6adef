"""The metrics of a run: what ``summary.json`` holds, computed from the interval table."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from envs.cache import atomic_write_text
from envs.context import ControlContext
from envs.latency import LatencyRecord, percentile
from envs.objectives.objective import power_in_scope
from experiments.evaluation.qos import violation_rate
from experiments.evaluation.rollout import Episode
from experiments.records.interval_table import IntervalTable

OVERSHOOT_TOLERANCE = 0.01
"""Overshoot of a power budget that :func:`budget_overshoot_rate` forgives, as a fraction."""

Summary = dict[str, Any]
"""Content of a ``summary.json``: controller, seed, metrics by key, provenance."""


@dataclass(frozen=True, kw_only=True)
class RunMetrics:
    """The metrics of an episode in SI units; ``None`` for what does not apply.

    Tokens, energy and requests are sums over all intervals; QoS and latency leave the warm-up
    out. :data:`experiments.evaluation.metric_table.METRICS` says what each metric means.
    """

    duration_s: float
    prompt_tokens: int
    output_tokens: int
    energy_gpu_j: float
    energy_system_j: float
    tokens_per_joule: float | None
    tokens_per_joule_system: float | None
    output_tokens_per_joule: float | None
    throughput_tok_s: float
    qos_violation_rate: float | None
    qos_violation_rate_backlog: float | None
    qos_violation_rate_plain: float | None
    slo_violation_rate: float | None
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    tpot_p50_s: float | None
    tpot_p99_s: float | None
    e2e_p50_s: float | None
    e2e_p99_s: float | None
    power_mean_w: float
    power_tracking_error_w: float | None
    power_overshoot_mean_w: float | None
    budget_overshoot_rate: float | None
    cap_binding_fraction: float | None
    knob_changes: int
    requests_arrived: int
    requests_finished: int
    requests_rejected: int
    requests_running: int
    requests_waiting: int
    preemptions: int
    prefix_cache_hit_rate: float | None
    reward_mean: float | None
    cost_mean: float | None
    target_mean_tok_s: float | None
    capacity_tok_s: float
    offered_tok_s: float
    num_gpus: int
    power_source: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the metrics by key."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def efficiency_over(self, base: RunMetrics) -> float:
        """Returns the tokens per joule as a ratio to those of another episode.

        Raises:
            ValueError: One of them drew no energy.
        """
        if self.tokens_per_joule is None or not base.tokens_per_joule:
            raise ValueError("an episode without energy or tokens has no efficiency to compare")
        return self.tokens_per_joule / base.tokens_per_joule


class LatencyPercentiles(TypedDict):
    """Percentiles of latencies in seconds; ``None`` where nothing was counted."""

    ttft_p50_s: float | None
    ttft_p99_s: float | None
    tpot_p50_s: float | None
    tpot_p99_s: float | None
    e2e_p50_s: float | None
    e2e_p99_s: float | None


def summarise(episode: Episode, context: ControlContext) -> RunMetrics:
    """Returns the metrics of an episode.

    ``qos_violation_rate`` needs the column that
    :func:`experiments.evaluation.qos.add_reference` adds; without it, it is ``None``.
    """
    table, latency, qos = episode.table, episode.latency, context.qos
    duration_s = table.total("duration_s")
    prompt, output = table.total("prompt_tokens"), table.total("output_tokens")
    gpu_j, system_j = table.total("energy_gpu_j"), table.total("energy_system_j")
    budget = table["power_budget_w"]
    limited = np.isfinite(budget)
    gap_w = scope_power_w(table, context) - budget
    asks_latency = np.isfinite(table["ttft_slo_s"]).any() or np.isfinite(table["tpot_slo_s"]).any()
    return RunMetrics(
        duration_s=duration_s,
        prompt_tokens=round(prompt),
        output_tokens=round(output),
        energy_gpu_j=gpu_j,
        energy_system_j=system_j,
        tokens_per_joule=ratio(prompt + output, gpu_j),
        tokens_per_joule_system=ratio(prompt + output, system_j),
        output_tokens_per_joule=ratio(output, gpu_j),
        throughput_tok_s=output / duration_s,
        qos_violation_rate=violation_rate(table, "reference", qos),
        qos_violation_rate_backlog=violation_rate(table, "backlog", qos),
        qos_violation_rate_plain=violation_rate(table, "plain", qos),
        slo_violation_rate=latency.slo_violation_rate if asks_latency else None,
        **latency_percentiles(latency),
        power_mean_w=gpu_j / duration_s,
        power_tracking_error_w=_mean(np.abs(gap_w), limited),
        power_overshoot_mean_w=_mean(np.maximum(gap_w, 0.0), limited),
        budget_overshoot_rate=budget_overshoot_rate(table, context),
        cap_binding_fraction=ratio(float(table["cap_binding"] @ table["duration_s"]), duration_s),
        knob_changes=knob_changes(table),
        requests_arrived=round(table.total("arrivals")),
        requests_finished=round(table.total("finished")),
        requests_rejected=round(table.total("rejected")),
        requests_running=round(float(table["running"][-1])),
        requests_waiting=round(float(table["waiting"][-1])),
        preemptions=round(table.total("preemptions")),
        prefix_cache_hit_rate=ratio(
            table.total("prefix_cache_hits"), table.total("prefix_cache_queries")
        ),
        reward_mean=float(table["reward"].mean()),
        cost_mean=float(table["cost"].mean()),
        target_mean_tok_s=_mean(table["target_tok_s"], table["target_tok_s"] > 0),
        capacity_tok_s=float(context.capacity_tok_s),
        offered_tok_s=float(context.offered_tok_s),
        num_gpus=context.num_gpus,
        power_source=episode.power_source,
    )


def latency_percentiles(latency: LatencyRecord) -> LatencyPercentiles:
    """Returns the latency metrics by key."""
    return LatencyPercentiles(
        ttft_p50_s=percentile(latency.ttft, 50),
        ttft_p99_s=percentile(latency.ttft, 99),
        tpot_p50_s=percentile(latency.tpot, 50),
        tpot_p99_s=percentile(latency.tpot, 99),
        e2e_p50_s=percentile(latency.e2e, 50),
        e2e_p99_s=percentile(latency.e2e, 99),
    )


def scope_power_w(table: IntervalTable, context: ControlContext) -> NDArray[np.float64]:
    """Returns the mean power per interval of what a budget covers, from energy (exact)."""
    gpus = table["energy_gpu_j"] / table["duration_s"]
    return np.asarray(power_in_scope(gpus, context.power_scope, context.system_power))


def budget_overshoot_rate(table: IntervalTable, context: ControlContext) -> float | None:
    """Returns the fraction of budgeted intervals above the budget by more than the tolerance."""
    budget = table["power_budget_w"]
    over = scope_power_w(table, context) > budget * (1.0 + OVERSHOOT_TOLERANCE)
    return _mean(over.astype(np.float64), np.isfinite(budget))


def knob_changes(table: IntervalTable) -> int:
    """Returns how often other knobs were asked for than in the interval before."""
    names = ("requested_power_cap_w", "requested_max_num_seqs", "requested_sm_clock_mhz")
    knobs = np.nan_to_num(np.stack([table[name] for name in names]), nan=np.inf)
    return int((knobs[:, 1:] != knobs[:, :-1]).any(axis=0).sum())


def ratio(numerator: float, denominator: float) -> float | None:
    """Returns a ratio; ``None`` where the denominator is not positive."""
    return numerator / denominator if denominator > 0 else None


def _mean(values: NDArray[np.float64], where: NDArray[np.bool_]) -> float | None:
    return float(values[where].mean()) if where.any() else None


def write_json(file: Path, content: Any) -> None:
    """Writes JSON whole; NaN and infinity are refused, they are not JSON.

    Raises:
        ValueError: The content holds NaN or infinity.
    """
    atomic_write_text(file, json.dumps(content, indent=2, allow_nan=False) + "\n")
