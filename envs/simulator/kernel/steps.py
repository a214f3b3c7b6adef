"""Engine steps one after the other, up to the end of a control interval."""

from __future__ import annotations

import math

from envs.compiled.jit import inlined, kernel
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.arrivals import ingest, refill
from envs.simulator.kernel.batch import advance_phase, join, leave_finished, next_finish
from envs.simulator.kernel.latencies import record_finished, record_first_token
from envs.simulator.kernel.layout import Server
from envs.simulator.kernel.schedule import (
    admit,
    blocks_for_run,
    blocks_for_step,
    continue_prompt,
    make_room,
    steps_until_change,
)
from envs.simulator.kernel.views import model_of, prefilling_of, requests_of, times_of
from envs.simulator.step_model import idle_power_w, resolve_step

_SETTLED_W = 0.5


@kernel
def run_until(server: Server) -> int:
    """Runs one server until the end of its control interval.

    Returns:
        ``DONE``, or ``NEEDS_REQUESTS`` when the buffer of requests has run dry: refill it and
        call again.
    """
    _take_knobs(server)
    until = server.until_s
    closed_loop = server.concurrency > 0
    while True:
        step_end = server.step_end_s
        if step_end < math.inf:
            _pass_time(
                server, min(step_end, until), server.step_power_w, server.step_clock,
                server.step_binding,
            )  # fmt: skip
            if step_end > until:
                return at.DONE if closed_loop else ingest(server, until)
            _complete_step(server)
        now = server.now_s
        status = refill(server, now) if closed_loop else ingest(server, now)
        if status == at.NEEDS_REQUESTS:
            return at.NEEDS_REQUESTS
        if now >= until:
            return at.DONE
        if not _start_step(server):
            _idle(server)


@inlined
def _take_knobs(server: Server) -> None:
    """Sets the knobs that are asked for, within the server's limits.

    :meth:`envs.knobs.KnobLimits.clip` is the same rule for the record of a single server.
    """
    cap_w = max(server.requested.power_cap_w, server.power_cap_min_w)
    server.power_cap_w = min(cap_w, server.power_cap_max_w)
    seqs = min(max(server.requested.max_num_seqs, 1.0), server.max_num_seqs_high)
    server.max_seqs = int(seqs) * int(server.replicas)
    clock_mhz = max(server.requested.sm_clock_mhz, server.sm_clock_min_mhz)
    highest_mhz = server.sm_clock_max_mhz
    server.clock_limit = min(clock_mhz, highest_mhz) / highest_mhz


@inlined
def _idle(server: Server) -> None:
    """Waits for the next request."""
    until = server.until_s
    if server.concurrency == 0 and server.next_arrival < server.arrivals_end:
        until = min(until, times_of(server)[server.next_arrival])
    power_w = idle_power_w(model_of(server))
    _pass_time(server, until, power_w, server.clock_limit, 0.0)


@kernel
def _pass_time(server: Server, until: float, power_w: float, clock: float, binding: float) -> None:
    """Lets time pass at constant power, up to ``until``."""
    elapsed_s = until - server.now_s
    if elapsed_s <= 0.0:
        return
    server.gpu_energy_j += power_w * elapsed_s
    server.clock_seconds += clock * elapsed_s
    server.binding_seconds += binding * elapsed_s
    server.now_s = until
    if server.cap_in_force_w != server.power_cap_w:
        _settle_cap(server, elapsed_s)


@kernel
def _settle_cap(server: Server, elapsed_s: float) -> None:
    """Moves the cap in force towards the cap asked for, with its time constant."""
    gap = server.cap_in_force_w - server.power_cap_w
    tau = server.cap_settling_s
    gap = gap * math.exp(-elapsed_s / tau) if tau > 0.0 else 0.0
    if abs(gap) < _SETTLED_W:
        gap = 0.0
    server.cap_in_force_w = server.power_cap_w + gap


@kernel
def _complete_step(server: Server) -> None:
    """Applies what the step (or the run of equal steps) in flight has brought about."""
    server.step_end_s = math.inf
    steps, decoding = server.steps_in_flight, server.decoding
    server.iteration += steps
    server.output_tokens += steps * decoding
    server.context_tokens += steps * decoding
    advance_phase(server, steps)
    if server.prefilling > 0:
        _complete_prompts(server)
    while next_finish(server) <= server.iteration:
        record_finished(server, leave_finished(server))
        if server.concurrency > 0:
            server.in_flight -= 1


@kernel
def _complete_prompts(server: Server) -> None:
    """Counts computed prompt tokens; requests whose prompt is done begin to decode."""
    requests = requests_of(server)
    prefilling = prefilling_of(server)
    count = server.prefilling
    server.prefilling = 0
    for position in range(count):
        slot = prefilling[position]
        computed = requests[slot].computed_tokens
        fresh = min(computed, requests[slot].prompt_tokens) - requests[slot].counted_tokens
        if fresh > 0:
            server.prompt_tokens += fresh
            requests[slot].counted_tokens += fresh
        if computed < requests[slot].prompt_tokens + requests[slot].generated_tokens:
            prefilling[0] = slot  # only the last one can lack tokens: the budget ended there
            server.prefilling = 1
            return
        requests[slot].generated_tokens += 1
        server.output_tokens += 1
        if requests[slot].first_token_s < 0.0:
            record_first_token(server, slot)
        to_come = requests[slot].output_tokens - requests[slot].generated_tokens
        requests[slot].finish_at = server.iteration + to_come
        join(server, slot)


@kernel
def _start_step(server: Server) -> bool:
    """Schedules one step, or a run of equal ones; returns False when there is nothing to do."""
    preempted = make_room(server)
    decoding, needed = server.decoding, blocks_for_step(server)
    server.blocks_used += needed
    budget = server.max_step_tokens - decoding
    tokens, pairs = 0, 0.0
    if server.prefilling > 0 and budget > 0:
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
    server.blocks_used -= needed
    _launch_decoding(server, 1 if preempted or server.prefilling > 0 else at.NEVER)
    return True


@inlined
def _resolve(
    server: Server, steps: int, tokens: int, pairs: float, cap_w: float
) -> tuple[float, float, float, float]:
    """Returns time, power, clock and binding of the step in the middle of a run."""
    decoding = server.decoding
    context = server.context_tokens + decoding * (1.0 + 0.5 * (steps - 1))
    fraction = 1.0 / server.replicas
    server.resolved += 1
    return resolve_step(
        model_of(server), decoding * fraction, context * fraction,
        tokens * fraction, pairs * fraction,
        cap_w, server.clock_limit,
    )  # fmt: skip


@inlined
def _launch(
    server: Server, steps: int, time_s: float, power_w: float, clock: float, binding: float
) -> None:
    server.steps_in_flight = steps
    server.steps += steps
    server.step_end_s = server.now_s + steps * time_s
    server.step_power_w = power_w
    server.step_clock = clock
    server.step_binding = binding


@inlined
def _launch_mixed(server: Server, tokens: int, pairs: float) -> None:
    """Starts a step that computes prompt tokens."""
    cap_w = server.cap_in_force_w
    time_s, power_w, clock, binding = _resolve(server, 1, tokens, pairs, cap_w)
    _launch(server, 1, time_s, power_w, clock, binding)


@kernel
def _launch_decoding(server: Server, most: int) -> None:
    """Starts a run of at most so many steps that only decode."""
    in_force_w, asked_w = server.cap_in_force_w, server.power_cap_w
    steps, needed = blocks_for_run(
        server, min(most, steps_until_change(server, server.decoding_step_s))
    )
    if steps > 1 and in_force_w != asked_w:
        # A cap that moves and binds changes from step to step; one that does not, changes
        # nothing at all.
        _, _, _, binding = _resolve(server, steps, 0, 0.0, min(in_force_w, asked_w))
        if binding > 0.0:
            steps, needed = 1, blocks_for_step(server)
    time_s, power_w, clock, binding = _resolve(server, steps, 0, 0.0, in_force_w)
    while steps > 1 and time_s > server.decoding_step_s:
        # The length of the run rests on a step time that was too short.
        server.decoding_step_s = time_s
        shorter = min(steps, steps_until_change(server, time_s))
        if shorter == steps:
            break
        steps, needed = blocks_for_run(server, shorter)
        time_s, power_w, clock, binding = _resolve(server, steps, 0, 0.0, in_force_w)
    server.decoding_step_s = time_s
    server.blocks_used += needed
    _launch(server, steps, time_s, power_w, clock, binding)
