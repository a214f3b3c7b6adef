"""What was observed of a server over one control interval."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable
from typing import Any, NamedTuple

from envs.knobs import Knobs

MEASURED = "measured"
MODELLED = "modelled"


class Telemetry(NamedTuple):
    """Observation of one server over one control interval, in SI units.

    The simulator and a live server fill in the same fields. For a vector of servers each
    numeric field holds an array of shape ``(num_envs,)``. Percentiles are 0 while their
    ``*_samples`` count is 0: nothing was observed, and nothing is made up.

    Attributes:
        time_s: Time since reset at the end of the interval.
        duration_s: Length of the interval.
        prompt_tokens: Prompt tokens computed, each once: recomputation after a preemption
            does not count.
        output_tokens: Output tokens produced.
        arrivals: Requests that arrived (rejected ones included).
        finished: Requests completed.
        rejected: Requests refused: longer than the server's context, or come when the simulator's
            queue is full (``max_waiting``).
        running: Requests in the running batch at the end of the interval.
        waiting: Requests waiting for a place at the end of the interval.
        prefill_backlog_tokens: Prompt tokens of the requests that have no first token yet
            (the progress of a prompt under way cannot be observed from outside).
        oldest_wait_s: Age of the oldest request that has no first token yet; 0 if none.
        kv_cache_usage: Fraction of the KV-cache blocks in use, 0 to 1.
        preemptions: Requests preempted for lack of KV blocks or by a lowered limit.
        ttft_samples: Requests behind the TTFT percentiles: those that got their first
            token in the interval, and those still waiting for it, with their age.
        ttft_p50_s: Median time to first token.
        ttft_p95_s: 95th percentile.
        ttft_p99_s: 99th percentile.
        tpot_samples: Requests behind the TPOT percentiles: those that finished with at least
            two output tokens.
        tpot_p50_s: Median time per output token after the first, per request.
        tpot_p95_s: 95th percentile.
        tpot_p99_s: 99th percentile.
        e2e_samples: Requests behind the end-to-end percentiles: those that finished.
        e2e_p50_s: Median time from arrival to the last token.
        e2e_p95_s: 95th percentile.
        e2e_p99_s: 99th percentile.
        slo_missed: Requests finished in the interval that missed their TTFT or TPOT SLO.
        slo_overdue: Unfinished requests that are already past an SLO at the interval's end.
        power_w: Mean power of all GPUs together, as the sensor reports it (averaged over
            its window).
        gpu_power_w: The same per GPU, one entry per GPU.
        energy_gpu_j: Energy of all GPUs over the interval: exact in the simulator; of a live server
            by the GPUs' counters, or the sensor's integral where they have none.
        energy_system_j: The node's energy: alpha times GPU energy plus beta times time
            (arXiv:2605.21427 §3.1).
        sm_clock_mhz: Mean SM clock.
        cap_binding: Fraction of the interval in which the power cap, not the load, set the clock.
        power_cap_w: Power cap in force per GPU at the end of the interval.
        max_num_seqs: Batch limit in force at the end of the interval.
        prefix_cache_queries: Tokens of admitted requests that were looked up in the prefix cache
            (vLLM's name); 0 where prefix caching is off.
        prefix_cache_hits: Those of them that were found, and not computed again.
        requested: Knobs that the controller requested.
        power_source: ``"measured"``, or ``"modelled"`` where no power meter exists.
    """

    time_s: Any = 0.0
    duration_s: Any = 0.0
    prompt_tokens: Any = 0.0
    output_tokens: Any = 0.0
    arrivals: Any = 0.0
    finished: Any = 0.0
    rejected: Any = 0.0
    running: Any = 0.0
    waiting: Any = 0.0
    prefill_backlog_tokens: Any = 0.0
    oldest_wait_s: Any = 0.0
    kv_cache_usage: Any = 0.0
    preemptions: Any = 0.0
    ttft_samples: Any = 0.0
    ttft_p50_s: Any = 0.0
    ttft_p95_s: Any = 0.0
    ttft_p99_s: Any = 0.0
    tpot_samples: Any = 0.0
    tpot_p50_s: Any = 0.0
    tpot_p95_s: Any = 0.0
    tpot_p99_s: Any = 0.0
    e2e_samples: Any = 0.0
    e2e_p50_s: Any = 0.0
    e2e_p95_s: Any = 0.0
    e2e_p99_s: Any = 0.0
    slo_missed: Any = 0.0
    slo_overdue: Any = 0.0
    power_w: Any = 0.0
    energy_gpu_j: Any = 0.0
    energy_system_j: Any = 0.0
    sm_clock_mhz: Any = 0.0
    cap_binding: Any = 0.0
    power_cap_w: Any = 0.0
    max_num_seqs: Any = 0.0
    prefix_cache_queries: Any = 0.0
    prefix_cache_hits: Any = 0.0
    gpu_power_w: tuple[Any, ...] = ()
    requested: Knobs = Knobs(0.0, 0, None)
    power_source: str = MODELLED

    @classmethod
    def from_row(
        cls,
        row: Iterable[Any],
        *,
        gpu_power_w: tuple[Any, ...],
        requested: Knobs,
        power_source: str,
    ) -> Telemetry:
        """Builds telemetry from its numbers in the order of :data:`NUMERIC_FIELDS`.

        Args:
            row: One number (or array of shape ``(num_envs,)``) for each numeric field.
            gpu_power_w: Power of each GPU.
            requested: Knobs that the controller requested.
            power_source: :data:`MEASURED` or :data:`MODELLED`.

        Raises:
            TypeError: The row has another number of fields.
        """
        return cls._make([*row, gpu_power_w, requested, power_source])


NUMERIC_FIELDS: tuple[str, ...] = Telemetry._fields[:-3]
"""Names of the fields that hold one number for each server, in order."""
NUM_TELEMETRY = len(NUMERIC_FIELDS)
COLUMN: Any = namedtuple("COLUMN", NUMERIC_FIELDS)(*range(NUM_TELEMETRY))  # type: ignore[misc]
"""Column of each of them in a row of telemetry, by name: ``row[COLUMN.power_w]``."""
