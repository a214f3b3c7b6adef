"""Where the compiled batching engine keeps what: columns of its state arrays.

A server's state is one row of a few arrays, so that many servers are stepped by one call and
all of them in parallel.
"""

from __future__ import annotations

from envs.telemetry import NUMERIC_FIELDS

# Floating-point state of one server (``EngineState.numbers``).
(
    NOW, UNTIL,
    CAP_W, CAP_IN_FORCE_W, CAP_TAU_S, CLOCK_LIMIT, CLOCK_MAX_MHZ,
    STEP_END, STEP_POWER_W, STEP_CLOCK, STEP_BINDING, ITERATION_S,
    NUM_GPUS, ALPHA, BETA_W, SENSOR_W, SENSOR_WINDOW_S,
    TTFT_SLO_S, TPOT_SLO_S, WARMUP_S,
    GPU_ENERGY_J, CLOCK_SECONDS, BINDING_SECONDS, INTERVAL_START, REPLICAS,
) = range(25)  # fmt: skip
NUM_NUMBERS = 25

# Integer state of one server (``EngineState.counts``).
(
    ITERATION, RUNNING, DECODING, STEP_ITERATIONS,
    HEAD, TAIL, NEXT, END, EXHAUSTED, CONCURRENCY, IN_FLIGHT,
    STACKED, CONTEXT, BLOCKS_USED, BLOCKS, BLOCK_SIZE,
    MAX_SEQS, MAX_STEP_TOKENS, MAX_MODEL_LEN, NEXT_FINISH, QUEUED_PROMPT,
    ARRIVALS, FINISHED, REJECTED, PREEMPTIONS, PROMPT_TOKENS, OUTPUT_TOKENS, SLO_MISSED,
    TTFT_SAMPLES, TPOT_SAMPLES, E2E_SAMPLES,
    TOTAL_FINISHED, TOTAL_SLO_MISSED, STEPS, JUMP, ADMITTED,
) = range(36)  # fmt: skip
NUM_COUNTS = 36

# One request in the running batch or among the preempted (``EngineState.slots``).
(
    PROMPT, OUTPUT, GENERATED, TO_COMPUTE, COMPUTED, COUNTED, ORDER, ARRIVED_S, FIRST_TOKEN_S,
) = range(9)  # fmt: skip
NUM_SLOT_FIELDS = 9

NUM_TELEMETRY = len(NUMERIC_FIELDS)
SAMPLES = 1024
"""Latency samples kept per interval and kind; further ones overwrite earlier ones."""

DONE = 0
NEEDS_REQUESTS = 1

ARRAYS = (
    "models", "numbers", "counts", "slots", "stacks", "finish_at",
    "times", "lengths", "phases", "samples", "totals", "telemetry",
)  # fmt: skip
"""State arrays of the engine, in the order that the compiled code takes their addresses."""
