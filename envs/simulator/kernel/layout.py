"""Where the compiled engine keeps what: the row of one server, in words of 8 bytes."""

from __future__ import annotations

# Floating-point state (``numbers``), at the beginning of the row.
(
    NOW, UNTIL, STEP_END,
    STEP_POWER_W, STEP_CLOCK, STEP_BINDING, ITERATION_S,
    GPU_ENERGY_J, CLOCK_SECONDS, BINDING_SECONDS, INTERVAL_START,
    CAP_W, CAP_IN_FORCE_W, CAP_TAU_S, CLOCK_LIMIT, CLOCK_MAX_MHZ,
    NUM_GPUS, REPLICAS, ALPHA, BETA_W, SENSOR_W, SENSOR_WINDOW_S,
    TTFT_SLO_S, TPOT_SLO_S, WARMUP_S,
    # Knobs asked for, per replica and without a limit on the clock infinite; and their limits.
    ASKED_CAP_W, ASKED_SEQS, ASKED_CLOCK_MHZ, CAP_MIN_W, CAP_MAX_W, SEQS_MAX, CLOCK_MIN_MHZ,
) = range(32)  # fmt: skip
NUM_NUMBERS = 32

# Integer state (``counts``), behind it.
(
    # Engine steps so far, minus that number modulo the block size, steps of the run in flight.
    ITERATION, PHASE, STEP_ITERATIONS,
    # Requests in the batch that decode; that still compute their prompt; preempted; free slots.
    DECODING, PREFILLING, PREEMPTED, FREE,
    # Begin of the requests that decode within the list sorted by when they finish.
    FIRST,
    # Requests: the queue is HEAD to TAIL, those yet to arrive NEXT to END.
    HEAD, TAIL, NEXT, END, EXHAUSTED, CONCURRENCY, IN_FLIGHT, QUEUED_PROMPT,
    CONTEXT, BLOCKS_USED, BLOCKS, BLOCK_SIZE, MAX_SEQS, MAX_STEP_TOKENS, MAX_MODEL_LEN,
    # Counted again in each interval.
    ARRIVALS, FINISHED, REJECTED, PREEMPTIONS, PROMPT_TOKENS, OUTPUT_TOKENS, SLO_MISSED,
    TTFT_SAMPLES, TPOT_SAMPLES, E2E_SAMPLES,
    # Counted over the episode.
    TOTAL_FINISHED, TOTAL_SLO_MISSED, STEPS, RESOLVED, ADMITTED,
    JUMP, CAPACITY,
    # Addresses.
    MODEL_AT, TIMES_AT, LENGTHS_AT, TELEMETRY_AT, PHASES_AT, FINISHING_AT, FREE_AT,
    PREFILLING_AT, PREEMPTED_AT, SLOTS_AT, STAMPS_AT, SAMPLES_AT, TOTALS_AT,
) = range(53)  # fmt: skip
NUM_COUNTS = 56
FIRST_ADDRESS = MODEL_AT
COUNTED_PER_INTERVAL = (ARRIVALS, E2E_SAMPLES + 1)

# One request that has been admitted (``slots``): a cache line each.
PROMPT, OUTPUT, GENERATED, COMPUTED, COUNTED, ORDER, FINISH_AT, SLOT_PHASE = range(8)
NUM_SLOT_FIELDS = 8

# Moments of the same request (``stamps``); the first token's is negative before it came.
ARRIVED_S, FIRST_TOKEN_S = range(2)
NUM_STAMPS = 2

# Kinds of latency (``samples``, ``totals``).
TTFT, TPOT, E2E = range(3)
SAMPLES = 1024
"""Latency samples kept per interval and kind; further ones overwrite earlier ones."""

SLOT_BITS = 20
"""Bits of a slot's number behind the finishing step in the sorted list."""
NEVER = 1 << 42

DONE = 0
NEEDS_REQUESTS = 1
