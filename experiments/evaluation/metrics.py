"""The figures of a run: what ``summary.json`` holds, computed from the interval table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.cache import atomic_write_text
from envs.context import ControlContext
from envs.latency import LatencyRecord, percentile
from envs.objectives.objective import power_in_scope
from experiments.evaluation.qos import after_warmup
from experiments.evaluation.rollout import Episode
from experiments.records.interval_table import IntervalTable

OVERSHOOT_TOLERANCE = 0.01
"""Overshoot of a power budget that :func:`budget_overshoot_rate` forgives, as a fraction."""

Summary = dict[str, Any]


def summarise(episode: Episode, context: ControlContext) -> Summary:
    """Returns the figures of an episode in SI units; what does not apply is ``None``.

    Tokens, energy and requests are sums over all intervals; QoS and latency leave the
    warm-up out.
    """
    table = episode.table
    duration_s = table.total("duration_s")
    return {
        "duration_s": duration_s,
        **_totals(table, duration_s),
        **_qos(table, context, episode.latency),
        **_latency(episode.latency),
        **_power(table, context, duration_s),
        **_requests(table),
        "reward_mean": float(table["reward"].mean()),
        "cost_mean": float(table["cost"].mean()),
        "target_mean_tok_s": _mean(table["target_tok_s"], table["target_tok_s"] > 0),
        "capacity_tok_s": float(context.capacity_tok_s),
        "offered_tok_s": float(context.offered_tok_s),
        "num_gpus": context.num_gpus,
        "power_source": episode.power_source,
    }


def _totals(table: IntervalTable, duration_s: float) -> Summary:
    prompt, output = table.total("prompt_tokens"), table.total("output_tokens")
    gpu_j, system_j = table.total("energy_gpu_j"), table.total("energy_system_j")
    return {
        "prompt_tokens": round(prompt),
        "output_tokens": round(output),
        "energy_gpu_j": gpu_j,
        "energy_system_j": system_j,
        "tokens_per_joule": _ratio(prompt + output, gpu_j),
        "tokens_per_joule_system": _ratio(prompt + output, system_j),
        "output_tokens_per_joule": _ratio(output, gpu_j),
        "throughput_tok_s": output / duration_s,
    }


def _qos(table: IntervalTable, context: ControlContext, latency: LatencyRecord) -> Summary:
    evaluated = after_warmup(table, context.qos)
    has_target = bool((table["target_tok_s"] > 0).any())
    asks_latency = bool(
        np.isfinite(table["ttft_slo_s"]).any() or np.isfinite(table["tpot_slo_s"]).any()
    )

    def rate(name: str) -> float | None:
        return _mean(table[name], evaluated) if has_target and name in table.names else None

    return {
        "qos_violation_rate": rate("violation_reference"),
        "qos_violation_rate_backlog": rate("violation_backlog"),
        "qos_violation_rate_plain": rate("violation_plain"),
        "slo_violation_rate": latency.slo_violation_rate if asks_latency else None,
    }


def _latency(latency: LatencyRecord) -> Summary:
    return {
        f"{name}_p{q}_s": percentile(getattr(latency, name), q)
        for name in ("ttft", "tpot", "e2e")
        for q in (50, 99)
    }


def _power(table: IntervalTable, context: ControlContext, duration_s: float) -> Summary:
    budget = table["power_budget_w"]
    limited = np.isfinite(budget)
    gap = scope_power_w(table, context) - budget
    return {
        "power_mean_w": table.total("energy_gpu_j") / duration_s,
        "power_tracking_error_w": _mean(np.abs(gap), limited),
        "power_overshoot_mean_w": _mean(np.maximum(gap, 0.0), limited),
        "budget_overshoot_rate": budget_overshoot_rate(table, context),
        "cap_binding_fraction": _ratio(
            float(table["cap_binding"] @ table["duration_s"]), duration_s
        ),
        "knob_changes": knob_changes(table),
    }


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


def _requests(table: IntervalTable) -> Summary:
    return {
        "requests_arrived": round(table.total("arrivals")),
        "requests_finished": round(table.total("finished")),
        "requests_rejected": round(table.total("rejected")),
        "requests_running": round(float(table["running"][-1])),
        "requests_waiting": round(float(table["waiting"][-1])),
        "preemptions": round(table.total("preemptions")),
    }


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None


def _mean(values: NDArray[np.float64], where: NDArray[np.bool_]) -> float | None:
    return float(values[where].mean()) if where.any() else None


def write_json(file: Path, content: Any) -> None:
    """Writes JSON whole; NaN and infinity are refused, they are not JSON.

    Raises:
        ValueError: The content holds NaN or infinity.
    """
    atomic_write_text(file, json.dumps(content, indent=2, allow_nan=False) + "\n")
