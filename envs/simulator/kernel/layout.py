"""What the engine remembers of a server. Read this first.

A server's whole state is one row of memory. It begins with a :class:`Server`, the numbers by
name; behind that lie the lists whose sizes follow from the server's configuration: the admitted
requests (:class:`Request`), the order in which they will finish, and the interval's latency
samples. :mod:`~envs.simulator.kernel.views` shows each of them (``requests_of(server)``).

Lists are found by their distance from the row's beginning, so a row may be copied over another
one of the same size: that forks a server. Four things lie outside, because they are shared or
grow: the step model, the requests that are queued or yet to come, and the telemetry that is
written for the reader. Their addresses are the last words of the record; a copy needs
its own.

The queue is a stretch ``queue_head`` to ``queue_tail`` of a list of arrival times and lengths,
in order of arrival; the requests that are yet to come are the stretch ``next_arrival`` to
``arrivals_end`` behind it. An admitted request takes a slot, and its number is what the lists
hold: ``decoding`` slots in the order in which they will finish, ``prefilling`` ones whose prompt
is not computed, ``preempted`` ones, ``free`` ones.
"""

from __future__ import annotations

from typing import Annotated, Any

from envs.compiled.records import Ints, dtype_of, floats_named, ints_of
from envs.knobs import Knobs


class Server:
    """The numbers of one server: times in seconds, powers in watts of one GPU."""

    # Time.
    now_s: float
    until_s: float  # end of the control interval
    interval_start_s: float

    # The engine step in flight, or the run of equal ones.
    step_end_s: float  # infinite while there is none
    step_power_w: float
    step_clock: float  # as a fraction of the highest
    step_binding: float  # 1 where the cap sets the clock
    steps_in_flight: int
    decoding_step_s: float  # of the last step that only decoded

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
    max_seqs: int  # of all replicas together
    clock_limit: float  # as a fraction of the highest

    # Hardware and limits.
    num_gpus: float
    replicas: float
    alpha: float  # system power = alpha x GPU power + beta
    beta_w: float
    sensor_w: float  # all GPUs, as the sensor shows it
    sensor_window_s: float
    blocks: int  # of the KV cache
    block_size: int  # tokens
    max_step_tokens: int
    max_model_len: int
    takes_runs: int  # whether several steps may be taken at once

    # Requests on their way in.
    queue_head: int
    queue_tail: int
    next_arrival: int
    arrivals_end: int
    exhausted: int  # whether no more will come than are known
    concurrency: int  # of a closed loop; 0 for open arrivals
    in_flight: int  # of a closed loop
    queued_prompt_tokens: int

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
    capacity: int  # slots

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
    num_samples: Annotated[Ints, ints_of(3)]  # latency samples by kind

    # Counted over the episode.
    total_finished: int
    total_slo_missed: int
    steps: int
    resolved: int  # calls of the step model
    admitted: int

    # Where the lists lie, in bytes from here.
    requests_offset: int
    finishing_offset: int
    prefilling_offset: int
    preempted_offset: int
    free_offset: int
    phases_offset: int
    samples_offset: int
    totals_offset: int  # 0 where latencies are not counted

    # Addresses of what lies outside.
    model_at: int
    times_at: int
    lengths_at: int
    telemetry_at: int


class Request:
    """An admitted request: 10 words in its slot."""

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


SERVER = dtype_of(Server)
REQUEST = dtype_of(Request)

TTFT, TPOT, E2E = range(3)
"""Kinds of latency."""
SAMPLES = 1024
"""Latency samples kept per interval and kind; further ones overwrite earlier ones."""

SLOT_BITS = 20
"""Bits of a slot's number behind the finishing step in the sorted list."""
NEVER = 1 << 42

DONE = 0
NEEDS_REQUESTS = 1
