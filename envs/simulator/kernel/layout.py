"""What the engine remembers of a server. Read this first.

A server's whole state is one row of memory. It begins with a :class:`Server`, the numbers by
name; behind that lie its engines, one for each data-parallel replica (:class:`Engine`), the lists
whose sizes follow from the server's configuration (for each engine the admitted requests,
:class:`Request`, and the order in which they will finish), and the interval's latency
samples. :mod:`~envs.simulator.kernel.views` shows each of them (``requests_of(engine)``).

Lists are found by their distance from the record they belong to, so a row may be copied over
another one of the same size: that forks a server. Four things lie outside, because they are
shared or grow: the step model, the requests that are queued or yet to come (:class:`Arrival`),
and the telemetry that is written for the reader. Their addresses are the last words of the
record; a copy needs its own.

The queue is a stretch ``queue_head`` to ``queue_tail`` of a list of requests in order of arrival;
those that are yet to come are the stretch ``next_arrival`` to ``arrivals_end`` behind it. A
request is given to an engine when it arrives, and leaves a gap in the queue when that engine
admits it (at its head, where there is one engine only). An admitted request takes a slot of its
engine, and its number is what the lists hold: ``decoding`` slots in the order in which they
will finish, ``prefilling`` ones whose prompt is not computed, ``preempted`` ones, ``free`` ones.
"""

from __future__ import annotations

from typing import Annotated, Any

from envs.compiled.records import Floats, Ints, dtype_of, floats_named, floats_of, ints_of
from envs.knobs import Knobs

MARKS = 32
"""Times at which the energy is noted for the sensor: the latest ones."""


class Server:
    """The numbers of one server: times in seconds, powers in watts of one GPU."""

    # Time.
    now_s: float
    until_s: float  # end of the control interval
    interval_start_s: float

    # Knobs: requested, the range of each, and in force.
    requested: Annotated[Any, floats_named(Knobs._fields)]  # a free clock is infinite
    power_cap_min_w: float
    power_cap_max_w: float
    max_num_seqs_high: float
    sm_clock_min_mhz: float
    sm_clock_max_mhz: float
    power_cap_w: float
    cap_in_force_w: float  # moves to power_cap_w
    cap_settling_s: float  # with this time constant
    max_seqs: int  # of each engine
    clock_limit: float  # as a fraction of the highest

    # Hardware and limits.
    num_gpus: float
    replicas: int
    lockstep: int  # engines whose steps begin together
    alpha: float  # system power = alpha x GPU power + beta
    beta_w: float
    sensor_w: float  # all GPUs, as the sensor shows it
    sensor_window_s: float  # over which it averages
    limit_window_s: float  # time constant of the mean power that a limit acts on
    warming_s: float  # time constant with which a chip's warmth follows the power
    spent_j: float  # by a GPU since the reset
    mark_s: float  # when to note that next
    marks: int  # how often it was noted
    mark_times_s: Annotated[Floats, floats_of(MARKS)]
    mark_spent_j: Annotated[Floats, floats_of(MARKS)]
    blocks: int  # of an engine's KV cache
    block_size: int  # tokens
    max_step_tokens: int  # of an engine
    max_model_len: int
    max_waiting: int
    shared_tokens: int  # with which every prompt begins
    text_id_tokens: float  # of a prompt for each id
    num_text_ids: int
    takes_runs: int  # whether several steps may be taken at once

    # Requests on their way in.
    queue_head: int
    queue_tail: int
    queued: int  # requests in between
    accepted: int  # over the episode
    next_arrival: int
    arrivals_end: int
    exhausted: int  # whether no more will come than are known
    waits_for_requests: int  # whether no time may pass before more are known
    concurrency: int  # of a closed loop; 0 for open arrivals
    in_flight: int  # of a closed loop
    refused: int  # in a row, of a closed loop
    queued_prompt_tokens: int
    reported_s: float  # when the engines last told the front end what they have
    next_engine: int  # where its search for the least busy one begins

    # Latency SLOs, and the time from which on an episode's latencies count.
    ttft_slo_s: float
    tpot_slo_s: float
    warmup_s: float

    # Counted again in each interval.
    gpu_energy_j: float
    clock_seconds: float  # clock fraction x time
    binding_seconds: float
    arrivals: int
    finished: int
    rejected: int
    preemptions: int
    prompt_tokens: int
    output_tokens: int
    slo_missed: int
    prefix_queries: int  # tokens that were looked up in the KV cache
    prefix_hits: int  # and of these, the ones that were found
    num_samples: Annotated[Ints, ints_of(3)]  # latency samples by kind

    # Counted over the episode.
    total_finished: int
    total_slo_missed: int
    steps: int

    # Where the lists lie, in bytes from here.
    engines_offset: int
    samples_offset: int
    totals_offset: int  # 0 where latencies are not counted

    # Addresses of what lies outside.
    model_at: int
    text_ids_at: int  # ids of the parts of recorded prompts, which all servers share
    arrivals_at: int
    telemetry_at: int


class Engine:
    """One replica: a scheduler with a batch and a KV cache of its own."""

    # The step in flight, or the run of equal ones.
    step_end_s: float  # infinite while there is none
    step_power_w: float
    step_clock: float  # as a fraction of the highest
    step_binding: float  # 1 where the cap sets the clock
    steps_in_flight: int
    decoding_step_s: float  # of the last step that only decoded

    # Power of its GPUs in time.
    limited_w: float  # mean that a limit acts on
    warm_w: float  # power that keeps its chips as warm as they are

    # What the next step computes.
    step_tokens: int  # of prompts
    step_pairs: float  # of these and the tokens they attend to
    step_limit: int  # steps that may be taken at once
    step_blocks: int  # that its decoding requests take in them
    step_time_s: float  # that it needs by itself
    wave_steps: int  # since the engines that step together last began with nothing to do

    # Its requests in the queue.
    queue_head: int  # none of them lies before this place
    queued: int

    # What the front end was told of it.
    reported_waiting: int  # and what it sent since
    reported_running: int
    reported_usage: float  # of the KV cache

    # The batch.
    iteration: int  # engine steps so far
    phase: int  # minus that number, modulo the block size
    decoding: int
    prefilling: int
    preempted: int
    free: int
    first: int  # where the decoding ones begin in the list sorted by when they finish
    context_tokens: int  # cached tokens of the decoding ones
    blocks_used: int
    admitted: int  # requests so far
    index: int  # among the server's engines
    capacity: int  # slots
    blocks: int  # of its KV cache, as the server says
    block_size: int

    # Prefix caching. Numbers of blocks count from 1 here: 0 is none.
    caches: int  # whether full blocks are found again
    blocks_idle: int  # known, and used by no request
    oldest_idle: int
    newest_idle: int
    blocks_known: int  # most that were known at a time
    unused_block: int  # first of a list of those that no longer are
    num_buckets: int  # a power of two
    held_room: int  # blocks that a request may hold

    # Where the lists lie, in bytes from here.
    requests_offset: int
    finishing_offset: int
    prefilling_offset: int
    preempted_offset: int
    free_offset: int
    phases_offset: int
    known_offset: int
    buckets_offset: int
    held_offset: int


class Arrival:
    """A request that waits or is yet to come."""

    arrived_s: float
    prompt_tokens: int
    output_tokens: int
    engine: int  # that it waits for; ``GONE`` once it was admitted
    text: int  # which no other request has, but those of its session; negative: it is alone
    first_id: int  # of its prompt's parts, among those of the recording; negative: it has none
    id_shift: int  # what is added to these ids


class Request:
    """An admitted request: 14 words in its slot."""

    prompt_tokens: int
    output_tokens: int
    generated_tokens: int  # when it was last preempted, or its prompt was done
    computed_tokens: int  # of its prompt, and after a preemption of its answer so far
    counted_tokens: int  # of its prompt, in the telemetry
    order: int  # in which requests were admitted
    finish_at: int  # iteration at whose end it finishes, while it decodes
    phase: int  # iteration, modulo the block size, that needs its next block
    arrived_s: float
    first_token_s: float  # negative before it came
    text: int
    first_id: int
    id_shift: int
    held_blocks: int  # full blocks, where these are known


class Known:
    """A full block of the KV cache that can be found again."""

    text: int
    place: int  # in the text
    users: int
    older: int  # idle block
    newer: int
    next: int  # in the same bucket, or in the list of those not in use


SERVER = dtype_of(Server)
ENGINE = dtype_of(Engine)
ARRIVAL = dtype_of(Arrival)
REQUEST = dtype_of(Request)
KNOWN = dtype_of(Known)
_FIELDS: Any = SERVER.fields
OUTSIDE = ("model_at", "text_ids_at", "arrivals_at", "telemetry_at")
"""The addresses that a row keeps when another one is copied over it: its record's last words."""
OUTSIDE_AT = int(_FIELDS[OUTSIDE[0]][1])
"""Where they begin."""

TTFT, TPOT, E2E = range(3)
"""Kinds of latency."""
SAMPLES = 1024
"""Latency samples kept per interval and kind; further ones overwrite earlier ones."""

SLOT_BITS = 20
"""Bits of a slot's number behind the finishing step in the sorted list."""
NEVER = 1 << 42

OWN_TEXTS = 1 << 38
"""Below are the numbers of texts that workloads give, from here on those that requests get."""

GONE = -1
"""In place of the engine of a request in the queue that an engine has admitted."""

DONE = 0
NEEDS_REQUESTS = 1
