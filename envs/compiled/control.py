"""Evaluating and observing one control interval of one server, compiled.

A server's state is one row of memory (:class:`envs.compiled.rows.Rows`), and the functions take the
row's address; :class:`envs.loop.ControlLoop` fills it.
"""

from __future__ import annotations

from envs.compiled.encoding import encode
from envs.compiled.jit import entry_point, inlined, kernel
from envs.compiled.pointers import Floats, Ints, float_table_at, floats_at, ints_at, singles_at
from envs.compiled.window import mean_rate, slide
from envs.objectives import qos
from envs.objectives.conditions import Conditions
from envs.observations import Observation
from envs.rewards import QOS_DEFINITIONS
from envs.telemetry import COLUMN, NUM_TELEMETRY

NUM_CONDITIONS = len(Conditions._fields)
NUM_ENTRIES = len(Observation._fields)
CONDITION = Conditions(*range(NUM_CONDITIONS))
ENTRY = Observation(*range(NUM_ENTRIES))

# Floating-point words (``numbers``), at the beginning of the row.
INTERVAL_S, ALPHA, BETA_W, TOLERANCE, BACKLOG_S, CLOCK_MAX_MHZ = range(6)
SUMS = 6  # of the windows
ASKED = 9  # knobs: cap, batch limit, clock
COMING = 12  # conditions of the interval to come
PASSED = COMING + NUM_CONDITIONS
EVALUATED = PASSED + NUM_CONDITIONS
THROUGHPUT, BELOW, BACKLOG, VIOLATION, SHORTFALL, POWER_IN_SCOPE = range(6)
NUM_EVALUATED = 6
NUM_NUMBERS = 32

# Integer words (``counts``), behind them.
(
    STEP, WARMUP, PLACE, STRETCH, STRETCHES, WINDOW, RING_NEXT, SEEN, DEFINITION,
    BEGINS_AT, CONDITIONS_AT, TELEMETRY_AT, REFERENCE_AT, OBSERVATION_AT,
    RAW_AT, INVERSE_UNIT_AT, LOG_FACTOR_AT, HIGH_AT, RINGS_AT,
) = range(19)  # fmt: skip
NUM_COUNTS = 24

TOKENS, ARRIVALS, REFERENCE = range(3)
"""The windows."""
_PLAIN, _REFERENCE = QOS_DEFINITIONS.index("plain"), QOS_DEFINITIONS.index("reference")

_violation_plain = kernel(qos.violation_plain)
_work_waits = kernel(qos.work_waits)
_shortfall = kernel(qos.shortfall)


@inlined
def numbers_of(loop: int) -> Floats:
    """Returns the floating-point words of the row at an address."""
    return floats_at(loop, NUM_NUMBERS)


@inlined
def counts_of(loop: int) -> Ints:
    """Returns the integer words of the row."""
    return ints_at(loop + 8 * NUM_NUMBERS, NUM_COUNTS)


@inlined
def _rate(loop: int, window: int, amount: float) -> float:
    """Adds an interval's amount to a window; returns its mean rate per second."""
    numbers, counts = numbers_of(loop), counts_of(loop)
    ring = float_table_at(counts[RINGS_AT], 3, counts[WINDOW])
    total = slide(ring, window, counts[RING_NEXT], numbers[SUMS + window], amount)
    numbers[SUMS + window] = total
    return mean_rate(total, counts[SEEN], numbers[INTERVAL_S])


@kernel
def _evaluate(loop: int) -> None:
    """Reads throughput and the violations of the interval that has passed."""
    numbers, counts = numbers_of(loop), counts_of(loop)
    telemetry = floats_at(counts[TELEMETRY_AT], NUM_TELEMETRY)
    target = numbers[COMING + CONDITION.target_tok_s]
    tolerance = numbers[TOLERANCE]
    counts[SEEN] = min(counts[SEEN] + 1, counts[WINDOW])
    throughput = _rate(loop, TOKENS, telemetry[COLUMN.output_tokens])
    arrival_rate = _rate(loop, ARRIVALS, telemetry[COLUMN.arrivals])
    goal = target
    if counts[REFERENCE_AT] != 0:
        delivered = floats_at(counts[REFERENCE_AT], NUM_TELEMETRY)[COLUMN.output_tokens]
        goal = min(target, _rate(loop, REFERENCE, delivered))
    counts[RING_NEXT] = (counts[RING_NEXT] + 1) % counts[WINDOW]
    warm = counts[STEP] >= counts[WARMUP]
    below = _violation_plain(throughput, target, tolerance) and warm
    waits = _work_waits(
        telemetry[COLUMN.waiting], telemetry[COLUMN.oldest_wait_s], numbers[BACKLOG_S]
    )
    violation = below and waits
    numbers[EVALUATED + BACKLOG] = 1.0 if violation else 0.0
    if counts[DEFINITION] == _PLAIN:
        violation = below
    elif counts[DEFINITION] == _REFERENCE:
        violation = _violation_plain(throughput, goal, tolerance) and warm
    numbers[EVALUATED + THROUGHPUT] = throughput
    numbers[EVALUATED + BELOW] = 1.0 if below else 0.0
    numbers[EVALUATED + VIOLATION] = 1.0 if violation else 0.0
    numbers[EVALUATED + SHORTFALL] = _shortfall(throughput, goal)
    power_w = telemetry[COLUMN.power_w]
    numbers[EVALUATED + POWER_IN_SCOPE] = numbers[ALPHA] * power_w + numbers[BETA_W]
    raw = floats_at(counts[RAW_AT], NUM_ENTRIES)
    raw[ENTRY.throughput_tok_s] = throughput
    raw[ENTRY.arrival_rate_per_s] = arrival_rate


@inlined
def _move_on(loop: int) -> None:
    """Notes the knobs asked for and goes on to the conditions of the next interval."""
    numbers, counts = numbers_of(loop), counts_of(loop)
    raw = floats_at(counts[RAW_AT], NUM_ENTRIES)
    for knob in range(3):
        raw[ENTRY.previous_power_cap_w + knob] = raw[ENTRY.last_power_cap_w + knob]
        raw[ENTRY.last_power_cap_w + knob] = numbers[ASKED + knob]
    raw[ENTRY.last_sm_clock_mhz] = min(raw[ENTRY.last_sm_clock_mhz], numbers[CLOCK_MAX_MHZ])
    counts[STEP] += 1
    counts[PLACE] += 1
    stretches = counts[STRETCHES]
    if counts[PLACE] == ints_at(counts[BEGINS_AT], stretches + 1)[counts[STRETCH] + 1]:
        counts[STRETCH] += 1
        if counts[STRETCH] == stretches:
            counts[STRETCH] = counts[PLACE] = 0
    rows = float_table_at(counts[CONDITIONS_AT], stretches, NUM_CONDITIONS)
    for condition in range(NUM_CONDITIONS):
        numbers[PASSED + condition] = numbers[COMING + condition]
        numbers[COMING + condition] = rows[counts[STRETCH], condition]


@kernel
def observe(loop: int) -> None:
    """Encodes what was observed and what is demanded next."""
    numbers, counts = numbers_of(loop), counts_of(loop)
    telemetry = floats_at(counts[TELEMETRY_AT], NUM_TELEMETRY)
    raw = floats_at(counts[RAW_AT], NUM_ENTRIES)
    interval_s = numbers[INTERVAL_S]
    raw[ENTRY.output_tok_s] = telemetry[COLUMN.output_tokens] / interval_s
    raw[ENTRY.prompt_tok_s] = telemetry[COLUMN.prompt_tokens] / interval_s
    raw[ENTRY.arrivals_per_s] = telemetry[COLUMN.arrivals] / interval_s
    raw[ENTRY.running] = telemetry[COLUMN.running]
    raw[ENTRY.waiting] = telemetry[COLUMN.waiting]
    raw[ENTRY.prefill_backlog_tokens] = telemetry[COLUMN.prefill_backlog_tokens]
    raw[ENTRY.oldest_wait_s] = telemetry[COLUMN.oldest_wait_s]
    raw[ENTRY.kv_cache_usage] = telemetry[COLUMN.kv_cache_usage]
    raw[ENTRY.preemptions] = telemetry[COLUMN.preemptions]
    raw[ENTRY.ttft_p99_s] = telemetry[COLUMN.ttft_p99_s]
    raw[ENTRY.tpot_p99_s] = telemetry[COLUMN.tpot_p99_s]
    raw[ENTRY.power_w] = telemetry[COLUMN.power_w]
    raw[ENTRY.sm_clock_mhz] = telemetry[COLUMN.sm_clock_mhz]
    raw[ENTRY.cap_binding] = telemetry[COLUMN.cap_binding]
    raw[ENTRY.power_cap_w] = telemetry[COLUMN.power_cap_w]
    raw[ENTRY.max_num_seqs] = telemetry[COLUMN.max_num_seqs]
    raw[ENTRY.target_tok_s] = numbers[COMING + CONDITION.target_tok_s]
    raw[ENTRY.power_budget_w] = numbers[COMING + CONDITION.power_budget_w]
    raw[ENTRY.ttft_slo_s] = numbers[COMING + CONDITION.ttft_slo_s]
    raw[ENTRY.tpot_slo_s] = numbers[COMING + CONDITION.tpot_slo_s]
    inverse_unit = floats_at(counts[INVERSE_UNIT_AT], NUM_ENTRIES)
    log_factor = floats_at(counts[LOG_FACTOR_AT], NUM_ENTRIES)
    high = floats_at(counts[HIGH_AT], NUM_ENTRIES)
    out = singles_at(counts[OBSERVATION_AT], NUM_ENTRIES)
    for entry in range(NUM_ENTRIES):
        out[entry] = encode(raw[entry], inverse_unit[entry], log_factor[entry], high[entry])


@kernel
def follow(loop: int) -> None:
    """Evaluates the interval that has passed, goes on to the next one and observes."""
    _evaluate(loop)
    _move_on(loop)
    observe(loop)


@entry_point()
def follow_one(loop: int) -> None:
    """See :func:`follow`.

    Args:
        loop: Address of the row.
    """
    follow(loop)


@entry_point()
def observe_one(loop: int) -> None:
    """See :func:`observe`.

    Args:
        loop: Address of the row.
    """
    observe(loop)
