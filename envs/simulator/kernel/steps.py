"""Engine steps one after the other, up to the end of a control interval."""

from __future__ import annotations

import math

from envs.compiled.jit import inlined, kernel
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.arrivals import ingest, refill
from envs.simulator.kernel.batch import advance_phase, join, leave_finished, next_finish
from envs.simulator.kernel.latencies import record_finished, record_first_token
from envs.simulator.kernel.schedule import (
    admit,
    blocks_for_run,
    blocks_for_step,
    continue_prompt,
    make_room,
    steps_until_change,
)
from envs.simulator.kernel.views import (
    counts_of,
    list_at,
    model_of,
    numbers_of,
    slots_of,
    stamps_of,
    times_of,
)
from envs.simulator.step_model import idle_power_w, resolve_step

_SETTLED_W = 0.5


@kernel
def run_until(server: int) -> int:
    """Runs one server until ``numbers[UNTIL]``.

    Returns:
        ``DONE``, or ``NEEDS_REQUESTS`` when the buffer of requests has run dry: refill it and
        call again.
    """
    numbers, counts = numbers_of(server), counts_of(server)
    _take_knobs(server)
    until = numbers[at.UNTIL]
    closed_loop = counts[at.CONCURRENCY] > 0
    while True:
        step_end = numbers[at.STEP_END]
        if step_end < math.inf:
            _pass_time(
                server, min(step_end, until), numbers[at.STEP_POWER_W], numbers[at.STEP_CLOCK],
                numbers[at.STEP_BINDING],
            )  # fmt: skip
            if step_end > until:
                return at.DONE if closed_loop else ingest(server, until)
            _complete_step(server)
        now = numbers[at.NOW]
        status = refill(server, now) if closed_loop else ingest(server, now)
        if status == at.NEEDS_REQUESTS:
            return at.NEEDS_REQUESTS
        if now >= until:
            return at.DONE
        if not _start_step(server):
            _idle(server)


@inlined
def _take_knobs(server: int) -> None:
    """Sets the knobs that are asked for, within the server's limits.

    :meth:`envs.knobs.KnobLimits.clip` is the same rule for the record of a single server.
    """
    numbers, counts = numbers_of(server), counts_of(server)
    cap_w = max(numbers[at.ASKED_CAP_W], numbers[at.CAP_MIN_W])
    numbers[at.CAP_W] = min(cap_w, numbers[at.CAP_MAX_W])
    seqs = min(max(numbers[at.ASKED_SEQS], 1.0), numbers[at.SEQS_MAX])
    counts[at.MAX_SEQS] = int(seqs) * int(numbers[at.REPLICAS])
    clock_mhz = max(numbers[at.ASKED_CLOCK_MHZ], numbers[at.CLOCK_MIN_MHZ])
    highest_mhz = numbers[at.CLOCK_MAX_MHZ]
    numbers[at.CLOCK_LIMIT] = min(clock_mhz, highest_mhz) / highest_mhz


@inlined
def _idle(server: int) -> None:
    """Waits for the next request."""
    numbers, counts = numbers_of(server), counts_of(server)
    until = numbers[at.UNTIL]
    if counts[at.CONCURRENCY] == 0 and counts[at.NEXT] < counts[at.END]:
        until = min(until, times_of(counts)[counts[at.NEXT]])
    power_w = idle_power_w(model_of(counts))
    _pass_time(server, until, power_w, numbers[at.CLOCK_LIMIT], 0.0)


@kernel
def _pass_time(server: int, until: float, power_w: float, clock: float, binding: float) -> None:
    """Lets time pass at constant power, up to ``until``."""
    numbers = numbers_of(server)
    elapsed_s = until - numbers[at.NOW]
    if elapsed_s <= 0.0:
        return
    numbers[at.GPU_ENERGY_J] += power_w * elapsed_s
    numbers[at.CLOCK_SECONDS] += clock * elapsed_s
    numbers[at.BINDING_SECONDS] += binding * elapsed_s
    numbers[at.NOW] = until
    if numbers[at.CAP_IN_FORCE_W] != numbers[at.CAP_W]:
        _settle_cap(server, elapsed_s)


@kernel
def _settle_cap(server: int, elapsed_s: float) -> None:
    """Moves the cap in force towards the cap asked for, with its time constant."""
    numbers = numbers_of(server)
    gap = numbers[at.CAP_IN_FORCE_W] - numbers[at.CAP_W]
    tau = numbers[at.CAP_TAU_S]
    gap = gap * math.exp(-elapsed_s / tau) if tau > 0.0 else 0.0
    if abs(gap) < _SETTLED_W:
        gap = 0.0
    numbers[at.CAP_IN_FORCE_W] = numbers[at.CAP_W] + gap


@kernel
def _complete_step(server: int) -> None:
    """Applies what the step (or the run of equal steps) in flight has brought about."""
    numbers, counts = numbers_of(server), counts_of(server)
    numbers[at.STEP_END] = math.inf
    steps, decoding = counts[at.STEP_ITERATIONS], counts[at.DECODING]
    counts[at.ITERATION] += steps
    counts[at.OUTPUT_TOKENS] += steps * decoding
    counts[at.CONTEXT] += steps * decoding
    advance_phase(server, steps)
    if counts[at.PREFILLING] > 0:
        _complete_prompts(server)
    while next_finish(server) <= counts[at.ITERATION]:
        record_finished(server, leave_finished(server))
        if counts[at.CONCURRENCY] > 0:
            counts[at.IN_FLIGHT] -= 1


@kernel
def _complete_prompts(server: int) -> None:
    """Counts computed prompt tokens; requests whose prompt is done begin to decode."""
    counts = counts_of(server)
    slots, stamps = slots_of(counts), stamps_of(counts)
    prefilling = list_at(counts, at.PREFILLING_AT)
    count = counts[at.PREFILLING]
    counts[at.PREFILLING] = 0
    for position in range(count):
        slot = prefilling[position]
        computed = slots[slot, at.COMPUTED]
        fresh = min(computed, slots[slot, at.PROMPT]) - slots[slot, at.COUNTED]
        if fresh > 0:
            counts[at.PROMPT_TOKENS] += fresh
            slots[slot, at.COUNTED] += fresh
        if computed < slots[slot, at.PROMPT] + slots[slot, at.GENERATED]:
            prefilling[0] = slot  # only the last one can lack tokens: the budget ended there
            counts[at.PREFILLING] = 1
            return
        slots[slot, at.GENERATED] += 1
        counts[at.OUTPUT_TOKENS] += 1
        if stamps[slot, at.FIRST_TOKEN_S] < 0.0:
            record_first_token(server, slot)
        to_come = slots[slot, at.OUTPUT] - slots[slot, at.GENERATED]
        slots[slot, at.FINISH_AT] = counts[at.ITERATION] + to_come
        join(server, slot)


@kernel
def _start_step(server: int) -> bool:
    """Schedules one step, or a run of equal ones; returns False when there is nothing to do."""
    counts = counts_of(server)
    preempted = make_room(server)
    decoding, needed = counts[at.DECODING], blocks_for_step(server)
    counts[at.BLOCKS_USED] += needed
    budget = counts[at.MAX_STEP_TOKENS] - decoding
    tokens, pairs = 0, 0.0
    if counts[at.PREFILLING] > 0 and budget > 0:
        tokens, pairs = continue_prompt(server, budget)
        if tokens < 0:
            preempted, tokens = True, 0
    if not preempted:
        more, more_pairs = admit(server, budget - tokens)
        tokens, pairs = tokens + more, pairs + more_pairs
    if tokens > 0:
        _launch_mixed(server, tokens, pairs)
        return True
    if decoding == 0:
        return False
    counts[at.BLOCKS_USED] -= needed
    _launch_decoding(server, 1 if preempted or counts[at.PREFILLING] > 0 else at.NEVER)
    return True


@inlined
def _resolve(
    server: int, steps: int, tokens: int, pairs: float, cap_w: float
) -> tuple[float, float, float, float]:
    """Returns time, power, clock and binding of the step in the middle of a run."""
    numbers, counts = numbers_of(server), counts_of(server)
    decoding = counts[at.DECODING]
    context = counts[at.CONTEXT] + decoding * (1.0 + 0.5 * (steps - 1))
    fraction = 1.0 / numbers[at.REPLICAS]
    counts[at.RESOLVED] += 1
    return resolve_step(
        model_of(counts), decoding * fraction, context * fraction,
        tokens * fraction, pairs * fraction,
        cap_w, numbers[at.CLOCK_LIMIT],
    )  # fmt: skip


@inlined
def _launch(
    server: int, steps: int, time_s: float, power_w: float, clock: float, binding: float
) -> None:
    numbers, counts = numbers_of(server), counts_of(server)
    counts[at.STEP_ITERATIONS] = steps
    counts[at.STEPS] += steps
    numbers[at.STEP_END] = numbers[at.NOW] + steps * time_s
    numbers[at.STEP_POWER_W] = power_w
    numbers[at.STEP_CLOCK] = clock
    numbers[at.STEP_BINDING] = binding


@inlined
def _launch_mixed(server: int, tokens: int, pairs: float) -> None:
    """Starts a step that computes prompt tokens."""
    cap_w = numbers_of(server)[at.CAP_IN_FORCE_W]
    time_s, power_w, clock, binding = _resolve(server, 1, tokens, pairs, cap_w)
    _launch(server, 1, time_s, power_w, clock, binding)


@kernel
def _launch_decoding(server: int, most: int) -> None:
    """Starts a run of at most so many steps that only decode."""
    numbers, counts = numbers_of(server), counts_of(server)
    in_force_w, asked_w = numbers[at.CAP_IN_FORCE_W], numbers[at.CAP_W]
    steps, needed = blocks_for_run(
        server, min(most, steps_until_change(server, numbers[at.ITERATION_S]))
    )
    if steps > 1 and in_force_w != asked_w:
        # A cap that moves and binds changes from step to step; one that does not, changes
        # nothing at all.
        _, _, _, binding = _resolve(server, steps, 0, 0.0, min(in_force_w, asked_w))
        if binding > 0.0:
            steps, needed = 1, blocks_for_step(server)
    time_s, power_w, clock, binding = _resolve(server, steps, 0, 0.0, in_force_w)
    while steps > 1 and time_s > numbers[at.ITERATION_S]:
        # The length of the run rests on a step time that was too short.
        numbers[at.ITERATION_S] = time_s
        shorter = min(steps, steps_until_change(server, time_s))
        if shorter == steps:
            break
        steps, needed = blocks_for_run(server, shorter)
        time_s, power_w, clock, binding = _resolve(server, steps, 0, 0.0, in_force_w)
    numbers[at.ITERATION_S] = time_s
    counts[at.BLOCKS_USED] += needed
    _launch(server, steps, time_s, power_w, clock, binding)
