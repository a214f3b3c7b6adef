"""What the service tells about itself, as Prometheus metrics."""

from __future__ import annotations

import threading
import time
from collections import deque

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from experiments.records.interval_table import Row

HOUR_S = 3600.0
GAUGES = {
    "pals_power_cap_asked_watts": ("requested_power_cap_w", "Power cap per GPU asked for."),
    "pals_power_cap_watts": ("power_cap_w", "Power cap per GPU in force, the lowest of all."),
    "pals_max_num_seqs_asked": ("requested_max_num_seqs", "Batch limit asked for."),
    "pals_max_num_seqs": ("max_num_seqs", "Batch limit in force."),
    "pals_sm_clock_mhz": ("sm_clock_mhz", "Mean SM clock."),
    "pals_power_watts": ("power_w", "Power of all GPUs."),
    "pals_cap_binding_ratio": ("cap_binding", "Fraction of time that the cap held the clock."),
    "pals_throughput_tokens_per_second": ("throughput_tok_s", "Output throughput, QoS window."),
    "pals_target_tokens_per_second": ("target_tok_s", "Throughput asked for."),
    "pals_power_budget_watts": ("power_budget_w", "Power budget; absent without one."),
    "pals_running_requests": ("running", "Requests running."),
    "pals_waiting_requests": ("waiting", "Requests waiting."),
    "pals_decision_seconds": ("decision_s", "Time from an observation to its knobs."),
    "pals_power_modelled": ("power_modelled", "1 where watts are modelled, 0 where measured."),
    "pals_sets_knobs": ("sets_knobs", "0 where decisions are told and nothing is set."),
    "pals_power_stalled": ("power_stalled", "1 while the power device does not answer."),
}
"""Gauges: the column of an interval that each shows, and what it is."""
COUNTERS = {
    "pals_energy_joules": ("energy_gpu_j", "Energy of all GPUs."),
    "pals_output_tokens": ("output_tokens", "Output tokens."),
    "pals_requests_finished": ("finished", "Requests finished."),
    "pals_slo_missed": ("slo_missed", "Finished requests that missed a latency SLO."),
    "pals_qos_violations": ("violation_backlog", "Intervals below target while work waited."),
    "pals_recoveries": ("recoveries", "Failures of the server that were recovered from."),
    "pals_guard_restarts": ("guard_restarts_new", "Times the guard had to be started again."),
    "pals_cap_changes_by_others": ("cap_changes_by_others", "Caps that others changed."),
    "pals_counters_reset": ("counters_reset", "Restarts of the server behind our back."),
}
"""Counters, likewise; Prometheus adds ``_total`` to their names."""


class Exposition:
    """Metrics of the service; its memory does not grow with time.

    Args:
        interval_s: Length of an interval, for means over an hour.
    """

    def __init__(self, interval_s: float) -> None:
        self._registry = CollectorRegistry()
        self._gauges = {
            name: Gauge(name, text, registry=self._registry) for name, (_, text) in GAUGES.items()
        }
        self._counters = {
            name: Counter(name, text, registry=self._registry)
            for name, (_, text) in COUNTERS.items()
        }
        self._intervals = Counter("pals_intervals", "Intervals.", registry=self._registry)
        self._changes = Counter(
            "pals_knob_changes", "Decisions that changed a knob.", registry=self._registry
        )
        self._reloads = Counter(
            "pals_reloads", "Settings read again, by outcome.", ["outcome"], registry=self._registry
        )
        self._efficiency = Gauge(
            "pals_tokens_per_joule", "Output tokens per joule of all GPUs.", ["window"],
            registry=self._registry,
        )  # fmt: skip
        self._last = Gauge(
            "pals_last_interval_timestamp_seconds", "When the last interval ended.",
            registry=self._registry,
        )  # fmt: skip
        self._hour: deque[tuple[float, float]] = deque(maxlen=max(1, round(HOUR_S / interval_s)))
        self._guard_restarts = 0.0
        self._lock = threading.Lock()

    def interval(self, row: Row, changed: bool) -> None:
        """Takes an interval.

        Args:
            row: Its row.
            changed: Whether its knobs differ from those before.
        """
        with self._lock:
            restarts = row.get("guard_restarts") or 0.0
            told = row | {"guard_restarts_new": max(0.0, restarts - self._guard_restarts)}
            self._guard_restarts = restarts
            for name, (column, _) in GAUGES.items():
                value = told.get(column)
                self._gauges[name].set(float("nan") if value is None else value)
            for name, (column, _) in COUNTERS.items():
                self._counters[name].inc(max(0.0, told.get(column) or 0.0))
            self._intervals.inc()
            self._changes.inc(float(changed))
            self._last.set(time.time())
            tokens, joules = row["output_tokens"] or 0.0, row["energy_gpu_j"] or 0.0
            self._hour.append((tokens, joules))
            self._efficiency.labels("interval").set(tokens / joules if joules > 0 else 0.0)

    def reloaded(self, outcome: str) -> None:
        """Counts configurations that were read again: ``done`` or ``refused``."""
        self._reloads.labels(outcome).inc()

    def text(self) -> bytes:
        """Returns all metrics in Prometheus text format."""
        with self._lock:
            tokens = sum(item[0] for item in self._hour)
            joules = sum(item[1] for item in self._hour)
            self._efficiency.labels("hour").set(tokens / joules if joules > 0 else 0.0)
            return generate_latest(self._registry)
