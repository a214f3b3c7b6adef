"""The telemetry of a control interval."""

from __future__ import annotations

from envs.compiled.jit import inlined, kernel
from envs.compiled.pointers import Floats
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
from envs.simulator.kernel.views import (
    counts_of,
    numbers_of,
    samples_of,
    slots_of,
    stamps_of,
    telemetry_of,
    times_of,
)
from envs.telemetry import COLUMN


@kernel
def observe(server: int) -> None:
    """Writes the telemetry of the interval that has passed and starts the next one."""
    numbers, counts = numbers_of(server), counts_of(server)
    out = telemetry_of(counts)
    out[COLUMN.prompt_tokens] = counts[at.PROMPT_TOKENS]
    out[COLUMN.output_tokens] = counts[at.OUTPUT_TOKENS]
    out[COLUMN.arrivals] = counts[at.ARRIVALS]
    out[COLUMN.finished] = counts[at.FINISHED]
    out[COLUMN.rejected] = counts[at.REJECTED]
    out[COLUMN.preemptions] = counts[at.PREEMPTIONS]
    out[COLUMN.slo_missed] = counts[at.SLO_MISSED]
    out[COLUMN.power_cap_w] = numbers[at.CAP_W]
    out[COLUMN.max_num_seqs] = counts[at.MAX_SEQS] / numbers[at.REPLICAS]
    _observe_batch(server, out)
    _observe_latencies(server, out)
    _observe_power(server, out)
    numbers[at.INTERVAL_START] = numbers[at.NOW]
    for column in range(at.COUNTED_PER_INTERVAL[0], at.COUNTED_PER_INTERVAL[1]):
        counts[column] = 0


@inlined
def _observe_batch(server: int, out: Floats) -> None:
    """Writes what waits, runs and is held, and notes the age of requests in between."""
    counts, now = counts_of(server), numbers_of(server)[at.NOW]
    slots, stamps = slots_of(counts), stamps_of(counts)
    queued = counts[at.TAIL] - counts[at.HEAD]
    oldest = times_of(counts)[counts[at.HEAD]] if queued > 0 else now
    backlog = counts[at.QUEUED_PROMPT]
    # Requests that are neither queued nor have a first token: a few.
    for index in range(counts[at.DECODING], num_admitted(server)):
        slot = admitted(server, index)
        if stamps[slot, at.FIRST_TOKEN_S] < 0.0:
            arrived_s = stamps[slot, at.ARRIVED_S]
            backlog += slots[slot, at.PROMPT]
            keep_sample(server, at.TTFT, now - arrived_s)
            oldest = min(oldest, arrived_s)
    out[COLUMN.running] = counts[at.DECODING] + counts[at.PREFILLING]
    out[COLUMN.waiting] = queued + counts[at.PREEMPTED]
    out[COLUMN.prefill_backlog_tokens] = backlog
    out[COLUMN.oldest_wait_s] = now - oldest
    out[COLUMN.kv_cache_usage] = counts[at.BLOCKS_USED] / counts[at.BLOCKS]


@inlined
def _observe_latencies(server: int, out: Floats) -> None:
    counts, samples = counts_of(server), samples_of(counts_of(server))
    ttft, count = samples[at.TTFT], min(counts[at.TTFT_SAMPLES], at.SAMPLES)
    sort(ttft, count)
    out[COLUMN.ttft_samples] = counts[at.TTFT_SAMPLES] + counts[at.TAIL] - counts[at.HEAD]
    out[COLUMN.ttft_p50_s] = ttft_quantile(server, ttft, count, 0.5)
    out[COLUMN.ttft_p95_s] = ttft_quantile(server, ttft, count, 0.95)
    out[COLUMN.ttft_p99_s] = ttft_quantile(server, ttft, count, 0.99)
    _write_quantiles(samples[at.TPOT], counts[at.TPOT_SAMPLES], out, COLUMN.tpot_samples)
    _write_quantiles(samples[at.E2E], counts[at.E2E_SAMPLES], out, COLUMN.e2e_samples)
    out[COLUMN.slo_overdue] = overdue(server, -1.0)


@inlined
def _write_quantiles(values: Floats, total: int, out: Floats, column: int) -> None:
    """Writes number, median, 95th and 99th percentile of values into adjacent columns."""
    count = min(total, at.SAMPLES)
    sort(values, count)
    out[column] = total
    out[column + 1] = values[nearest_rank(0.5, count) - 1] if count > 0 else 0.0
    out[column + 2] = values[nearest_rank(0.95, count) - 1] if count > 0 else 0.0
    out[column + 3] = values[nearest_rank(0.99, count) - 1] if count > 0 else 0.0


@inlined
def _observe_power(server: int, out: Floats) -> None:
    numbers = numbers_of(server)
    duration_s = numbers[at.NOW] - numbers[at.INTERVAL_START]
    energy_j = numbers[at.GPU_ENERGY_J] * numbers[at.NUM_GPUS]
    out[COLUMN.time_s] = numbers[at.NOW]
    out[COLUMN.duration_s] = duration_s
    out[COLUMN.energy_gpu_j] = energy_j
    out[COLUMN.energy_system_j] = numbers[at.ALPHA] * energy_j + numbers[at.BETA_W] * duration_s
    if duration_s > 0.0:
        power_w, window_s = energy_j / duration_s, numbers[at.SENSOR_WINDOW_S]
        fraction = min(1.0, duration_s / window_s) if window_s > 0.0 else 1.0
        numbers[at.SENSOR_W] += fraction * (power_w - numbers[at.SENSOR_W])
        clock = numbers[at.CLOCK_SECONDS] / duration_s
        out[COLUMN.sm_clock_mhz] = clock * numbers[at.CLOCK_MAX_MHZ]
        out[COLUMN.cap_binding] = numbers[at.BINDING_SECONDS] / duration_s
    out[COLUMN.power_w] = numbers[at.SENSOR_W]
    numbers[at.GPU_ENERGY_J] = 0.0
    numbers[at.CLOCK_SECONDS] = 0.0
    numbers[at.BINDING_SECONDS] = 0.0
