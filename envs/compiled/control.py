"""Evaluating and observing one control interval of one server, compiled.

What is remembered of a server from interval to interval is a :class:`Loop` at the beginning of a
row of memory (:class:`envs.compiled.rows.Rows`), with the windows behind it.
:class:`envs.loop.ControlLoop` fills it.
"""

from __future__ import annotations

from typing import Annotated, Any

from numba.np.numpy_support import carray

from envs.compiled.encoding import encode
from envs.compiled.jit import entry_point, inlined, kernel
from envs.compiled.records import (
    Floats,
    address_of,
    dtype_of,
    float_table_at,
    floats_at,
    floats_named,
    floats_of,
    ints_at,
    pointer_to,
    singles_at,
)
from envs.compiled.reward_terms import reward_terms
from envs.compiled.telemetry_row import telemetry_at
from envs.compiled.window import mean_rate, slide
from envs.knobs import Knobs
from envs.objectives import qos
from envs.objectives.conditions import Conditions
from envs.observations import Observation
from envs.rewards import QOS_DEFINITIONS

NUM_ENTRIES = len(Observation._fields)
CONDITIONS = floats_named(Conditions._fields)
KNOBS, OBSERVATION = floats_named(Knobs._fields), floats_named(Observation._fields)
SCALES = floats_of(NUM_ENTRIES)
TOKENS, ARRIVALS, REFERENCE = range(3)
"""The windows."""
WINDOWS = 3
_PLAIN, _REFERENCE = QOS_DEFINITIONS.index("plain"), QOS_DEFINITIONS.index("reference")


class Evaluated:
    """What was made of the interval that has passed; flags are 0 or 1.

    Attributes:
        throughput_tok_s: Output tokens/s over the QoS window.
        below: Whether throughput is below the target (plain).
        backlog: Whether it is, while work waits (backlog-aware).
        violation: Whether QoS is violated in the reward's definition.
        shortfall: How far throughput falls short of its goal, as a fraction.
        power_w: Power in the scope that the objective names.
        reward: Weighted sum of the reward terms, where they are compiled.
    """

    throughput_tok_s: float
    below: float
    backlog: float
    violation: float
    shortfall: float
    power_w: float
    reward: float


class Loop:
    """The numbers of one server's control loop."""

    # What stays the same.
    interval_s: float
    alpha: float  # power in scope = alpha x GPU power + beta
    beta_w: float
    tolerance: float  # of the QoS target
    backlog_s: float  # age from which waiting work counts
    sm_clock_max_mhz: float
    warmup: int  # intervals
    window: int  # intervals
    definition: int  # of a violation, in QOS_DEFINITIONS
    capacity_tok_s: float
    rated_power_w: float
    cap_range_w: float
    octaves: float  # range of the batch limit
    num_terms: int  # of the reward; 0 where it is computed in Python
    inverse_unit: Annotated[Floats, SCALES]  # of each entry of an observation
    log_factor: Annotated[Floats, SCALES]
    high: Annotated[Floats, SCALES]

    # Knobs and conditions.
    requested: Annotated[Any, KNOBS]  # a free clock is infinite
    octaves_moved: float  # by the batch limit that was requested, from the one before
    coming: Annotated[Any, CONDITIONS]  # of the interval to come
    passed: Annotated[Any, CONDITIONS]  # of the one that has passed
    step: int  # intervals since the episode began
    place: int  # intervals since the conditions began again
    stretch: int  # of conditions that stay the same
    stretches: int

    # The interval that has passed.
    evaluated: Evaluated
    observation: Annotated[Any, OBSERVATION]  # in SI units

    # Windows: rings of amounts, one for each interval.
    sums: Annotated[Floats, floats_of(WINDOWS)]
    seen: int  # intervals in the rings
    ring_next: int
    rings_offset: int  # bytes from here
    values_offset: int  # of the reward's terms

    # Addresses of what lies outside.
    begins_at: int  # where each stretch begins
    conditions_at: int  # of each stretch
    telemetry_at: int
    reference_at: int  # telemetry of a Baseline on the same arrivals; 0 for none
    terms_at: int  # of the reward
    encoded_at: int  # where the observation is written


LOOP = dtype_of(Loop)

_loop, _conditions = pointer_to(LOOP), pointer_to(CONDITIONS)
_violation_plain = kernel(qos.violation_plain)
_work_waits = kernel(qos.work_waits)
_shortfall = kernel(qos.shortfall)


@inlined
def loop_at(address: int) -> Loop:
    """Returns the control loop whose row begins at an address."""
    loop: Loop = carray(_loop(address), (1,), LOOP)[0]
    return loop


@inlined
def _rate(loop: Loop, window: int, amount: float) -> float:
    """Adds an interval's amount to a window; returns its mean rate per second."""
    ring = float_table_at(address_of(loop) + loop.rings_offset, WINDOWS, loop.window)
    total = slide(ring, window, loop.ring_next, loop.sums[window], amount)
    loop.sums[window] = total
    return mean_rate(total, loop.seen, loop.interval_s)


@kernel
def _evaluate(loop: Loop) -> None:
    """Reads throughput and the violations of the interval that has passed."""
    telemetry = telemetry_at(loop.telemetry_at)
    target = loop.coming.target_tok_s
    tolerance = loop.tolerance
    loop.seen = min(loop.seen + 1, loop.window)
    throughput = _rate(loop, TOKENS, telemetry.output_tokens)
    arrival_rate = _rate(loop, ARRIVALS, telemetry.arrivals)
    goal = target
    if loop.reference_at != 0:
        delivered = telemetry_at(loop.reference_at).output_tokens
        goal = min(target, _rate(loop, REFERENCE, delivered))
    loop.ring_next = (loop.ring_next + 1) % loop.window
    warm = loop.step >= loop.warmup
    below = _violation_plain(throughput, target, tolerance) and warm
    waits = _work_waits(telemetry.waiting, telemetry.oldest_wait_s, loop.backlog_s)
    violation = below and waits
    loop.evaluated.backlog = 1.0 if violation else 0.0
    if loop.definition == _PLAIN:
        violation = below
    elif loop.definition == _REFERENCE:
        violation = _violation_plain(throughput, goal, tolerance) and warm
    loop.evaluated.throughput_tok_s = throughput
    loop.evaluated.below = 1.0 if below else 0.0
    loop.evaluated.violation = 1.0 if violation else 0.0
    loop.evaluated.shortfall = _shortfall(throughput, goal)
    power_w = telemetry.power_w
    loop.evaluated.power_w = loop.alpha * power_w + loop.beta_w
    if loop.num_terms > 0:
        reward_terms(loop, telemetry)
    observation = loop.observation
    observation.throughput_tok_s = throughput
    observation.arrival_rate_per_s = arrival_rate


@inlined
def _move_on(loop: Loop) -> None:
    """Notes the knobs asked for and goes on to the conditions of the next interval."""
    observation = loop.observation
    observation.previous_power_cap_w = observation.last_power_cap_w
    observation.previous_max_num_seqs = observation.last_max_num_seqs
    observation.previous_sm_clock_mhz = observation.last_sm_clock_mhz
    observation.last_power_cap_w = loop.requested.power_cap_w
    observation.last_max_num_seqs = loop.requested.max_num_seqs
    observation.last_sm_clock_mhz = min(loop.requested.sm_clock_mhz, loop.sm_clock_max_mhz)
    loop.step += 1
    loop.place += 1
    stretches = loop.stretches
    if loop.place == ints_at(loop.begins_at, stretches + 1)[loop.stretch + 1]:
        loop.stretch += 1
        if loop.stretch == stretches:
            loop.stretch = loop.place = 0
    loop.passed = loop.coming
    loop.coming = carray(_conditions(loop.conditions_at), (stretches,), CONDITIONS)[loop.stretch]


@kernel
def observe(loop: Loop) -> None:
    """Encodes what was observed and what is demanded next."""
    telemetry = telemetry_at(loop.telemetry_at)
    observation = loop.observation
    interval_s = loop.interval_s
    observation.output_tok_s = telemetry.output_tokens / interval_s
    observation.prompt_tok_s = telemetry.prompt_tokens / interval_s
    observation.arrivals_per_s = telemetry.arrivals / interval_s
    observation.running = telemetry.running
    observation.waiting = telemetry.waiting
    observation.prefill_backlog_tokens = telemetry.prefill_backlog_tokens
    observation.oldest_wait_s = telemetry.oldest_wait_s
    observation.kv_cache_usage = telemetry.kv_cache_usage
    observation.preemptions = telemetry.preemptions
    observation.ttft_p99_s = telemetry.ttft_p99_s
    observation.tpot_p99_s = telemetry.tpot_p99_s
    observation.power_w = telemetry.power_w
    observation.sm_clock_mhz = telemetry.sm_clock_mhz
    observation.cap_binding = telemetry.cap_binding
    observation.power_cap_w = telemetry.power_cap_w
    observation.max_num_seqs = telemetry.max_num_seqs
    observation.target_tok_s = loop.coming.target_tok_s
    observation.power_budget_w = loop.coming.power_budget_w
    observation.ttft_slo_s = loop.coming.ttft_slo_s
    observation.tpot_slo_s = loop.coming.tpot_slo_s
    values = floats_at(address_of(observation), NUM_ENTRIES)
    encoded = singles_at(loop.encoded_at, NUM_ENTRIES)
    for entry in range(NUM_ENTRIES):
        encoded[entry] = encode(
            values[entry], loop.inverse_unit[entry], loop.log_factor[entry], loop.high[entry]
        )


@kernel
def follow(loop: Loop) -> None:
    """Evaluates the interval that has passed, goes on to the next one and observes."""
    _evaluate(loop)
    _move_on(loop)
    observe(loop)


@entry_point()
def follow_one(address: int) -> None:
    """See :func:`follow`.

    Args:
        address: Address of the row.
    """
    follow(loop_at(address))


@entry_point()
def observe_one(address: int) -> None:
    """See :func:`observe`.

    Args:
        address: Address of the row.
    """
    observe(loop_at(address))
