"""The telemetry of a control interval."""

from __future__ import annotations

from typing import Any

from envs.compiled.jit import inlined, kernel
from envs.compiled.records import Floats
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.latencies import (
    admitted,
    keep_sample,
    nearest_rank,
    num_admitted,
    overdue,
    sort,
    ttft_quantile,
)
from envs.simulator.kernel.layout import Server
from envs.simulator.kernel.views import requests_of, samples_of, telemetry_of, times_of


@kernel
def observe(server: Server) -> None:
    """Writes the telemetry of the interval that has passed and starts the next one."""
    telemetry = telemetry_of(server)
    telemetry.prompt_tokens = server.prompt_tokens
    telemetry.output_tokens = server.output_tokens
    telemetry.arrivals = server.arrivals
    telemetry.finished = server.finished
    telemetry.rejected = server.rejected
    telemetry.preemptions = server.preemptions
    telemetry.slo_missed = server.slo_missed
    telemetry.power_cap_w = server.power_cap_w
    telemetry.max_num_seqs = server.max_seqs / server.replicas
    _observe_batch(server, telemetry)
    _observe_latencies(server, telemetry)
    _observe_power(server, telemetry)
    server.interval_start_s = server.now_s
    _count_again(server)


@inlined
def _count_again(server: Server) -> None:
    """Sets to zero what is counted per interval."""
    server.gpu_energy_j = 0.0
    server.clock_seconds = 0.0
    server.binding_seconds = 0.0
    server.arrivals = 0
    server.finished = 0
    server.rejected = 0
    server.preemptions = 0
    server.prompt_tokens = 0
    server.output_tokens = 0
    server.slo_missed = 0
    for kind in range(3):
        server.num_samples[kind] = 0


@inlined
def _observe_batch(server: Server, telemetry: Any) -> None:
    """Writes what waits, runs and is held, and notes the age of requests in between."""
    now = server.now_s
    requests = requests_of(server)
    queued = server.queue_tail - server.queue_head
    oldest = times_of(server)[server.queue_head] if queued > 0 else now
    backlog = server.queued_prompt_tokens
    # Requests that are neither queued nor have a first token: a few.
    for index in range(server.decoding, num_admitted(server)):
        slot = admitted(server, index)
        if requests[slot].first_token_s < 0.0:
            arrived_s = requests[slot].arrived_s
            backlog += requests[slot].prompt_tokens
            keep_sample(server, at.TTFT, now - arrived_s)
            oldest = min(oldest, arrived_s)
    telemetry.running = server.decoding + server.prefilling
    telemetry.waiting = queued + server.preempted
    telemetry.prefill_backlog_tokens = backlog
    telemetry.oldest_wait_s = now - oldest
    telemetry.kv_cache_usage = server.blocks_used / server.blocks


@inlined
def _observe_latencies(server: Server, telemetry: Any) -> None:
    samples = samples_of(server)
    ttft, count = samples[at.TTFT], min(server.num_samples[at.TTFT], at.SAMPLES)
    sort(ttft, count)
    telemetry.ttft_samples = server.num_samples[at.TTFT] + server.queue_tail - server.queue_head
    telemetry.ttft_p50_s = ttft_quantile(server, ttft, count, 0.5)
    telemetry.ttft_p95_s = ttft_quantile(server, ttft, count, 0.95)
    telemetry.ttft_p99_s = ttft_quantile(server, ttft, count, 0.99)
    tpot, count = samples[at.TPOT], min(server.num_samples[at.TPOT], at.SAMPLES)
    sort(tpot, count)
    telemetry.tpot_samples = server.num_samples[at.TPOT]
    telemetry.tpot_p50_s = _quantile(tpot, count, 0.5)
    telemetry.tpot_p95_s = _quantile(tpot, count, 0.95)
    telemetry.tpot_p99_s = _quantile(tpot, count, 0.99)
    e2e, count = samples[at.E2E], min(server.num_samples[at.E2E], at.SAMPLES)
    sort(e2e, count)
    telemetry.e2e_samples = server.num_samples[at.E2E]
    telemetry.e2e_p50_s = _quantile(e2e, count, 0.5)
    telemetry.e2e_p95_s = _quantile(e2e, count, 0.95)
    telemetry.e2e_p99_s = _quantile(e2e, count, 0.99)
    telemetry.slo_overdue = overdue(server, -1.0)


@inlined
def _quantile(values: Floats, count: int, q: float) -> float:
    """Returns a quantile of sorted values; 0 where there are none."""
    return values[nearest_rank(q, count) - 1] if count > 0 else 0.0


@inlined
def _observe_power(server: Server, telemetry: Any) -> None:
    duration_s = server.now_s - server.interval_start_s
    energy_j = server.gpu_energy_j * server.num_gpus
    telemetry.time_s = server.now_s
    telemetry.duration_s = duration_s
    telemetry.energy_gpu_j = energy_j
    telemetry.energy_system_j = server.alpha * energy_j + server.beta_w * duration_s
    if duration_s > 0.0:
        power_w, window_s = energy_j / duration_s, server.sensor_window_s
        fraction = min(1.0, duration_s / window_s) if window_s > 0.0 else 1.0
        server.sensor_w += fraction * (power_w - server.sensor_w)
        clock = server.clock_seconds / duration_s
        telemetry.sm_clock_mhz = clock * server.sm_clock_max_mhz
        telemetry.cap_binding = server.binding_seconds / duration_s
    telemetry.power_w = server.sensor_w
