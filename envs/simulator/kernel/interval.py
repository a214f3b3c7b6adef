"""The telemetry of a control interval."""

from __future__ import annotations

from typing import Any

from envs.compiled.jit import inlined, kernel
from envs.compiled.records import Floats
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.ahead import fetch_quantile
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
from envs.simulator.kernel.power_in_time import window_mean_w
from envs.simulator.kernel.queue import close_gaps
from envs.simulator.kernel.views import (
    arrivals_of,
    engine_at,
    requests_of,
    samples_of,
    telemetry_of,
)


@kernel
def observe(server: Server) -> None:
    """Writes the telemetry of the interval that has passed and starts the next one."""
    fetch_quantile(server, 0.5)
    fetch_quantile(server, 0.95)
    close_gaps(server)
    telemetry = telemetry_of(server)
    telemetry.prompt_tokens = server.prompt_tokens
    telemetry.output_tokens = server.output_tokens
    telemetry.arrivals = server.arrivals
    telemetry.finished = server.finished
    telemetry.rejected = server.rejected
    telemetry.preemptions = server.preemptions
    telemetry.slo_missed = server.slo_missed
    telemetry.prefix_cache_queries = server.prefix_queries
    telemetry.prefix_cache_hits = server.prefix_hits
    telemetry.power_cap_w = server.power_cap_w
    telemetry.max_num_seqs = server.max_seqs
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
    server.prefix_queries = 0
    server.prefix_hits = 0
    for kind in range(3):
        server.num_samples[kind] = 0


@inlined
def _observe_batch(server: Server, telemetry: Any) -> None:
    """Writes what waits, runs and is held, and notes the age of requests in between."""
    now = server.now_s
    queued = server.queued
    oldest = arrivals_of(server)[server.queue_head].arrived_s if queued > 0 else now
    backlog = server.queued_prompt_tokens
    running, preempted, used = 0, 0, 0
    for replica in range(server.replicas):
        engine = engine_at(server, replica)
        requests = requests_of(engine)
        # Requests that are neither queued nor have a first token: a few.
        for index in range(engine.decoding, num_admitted(engine)):
            slot = admitted(engine, index)
            if requests[slot].first_token_s < 0.0:
                arrived_s = requests[slot].arrived_s
                backlog += requests[slot].prompt_tokens
                keep_sample(server, at.TTFT, now - arrived_s)
                oldest = min(oldest, arrived_s)
        running += engine.decoding + engine.prefilling
        preempted += engine.preempted
        used += engine.blocks_used
    telemetry.running = running
    telemetry.waiting = queued + preempted
    telemetry.prefill_backlog_tokens = backlog
    telemetry.oldest_wait_s = now - oldest
    telemetry.kv_cache_usage = used / (server.blocks * server.replicas)


@inlined
def _observe_latencies(server: Server, telemetry: Any) -> None:
    samples = samples_of(server)
    ttft, count = samples[at.TTFT], min(server.num_samples[at.TTFT], at.SAMPLES)
    sort(ttft, count)
    telemetry.ttft_samples = server.num_samples[at.TTFT] + server.queued
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
        mean_w = server.gpu_energy_j / duration_s
        shown_w = window_mean_w(server) if server.sensor_window_s > 0.0 else mean_w
        server.sensor_w = shown_w * server.num_gpus
        clock = server.clock_seconds / duration_s
        telemetry.sm_clock_mhz = clock * server.sm_clock_max_mhz
        telemetry.cap_binding = server.binding_seconds / duration_s
    telemetry.power_w = server.sensor_w
