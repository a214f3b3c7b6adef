"""Engine steps one after the other, up to the end of a control interval."""

from __future__ import annotations

import math

from envs.compiled.jit import inlined, kernel
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.arrivals import ingest, refill
from envs.simulator.kernel.batch import advance_phase, join, leave_finished
from envs.simulator.kernel.batch_numbers import next_finish
from envs.simulator.kernel.latencies import record_finished, record_first_token
from envs.simulator.kernel.launch import start_steps
from envs.simulator.kernel.layout import Engine, Server
from envs.simulator.kernel.power_in_time import (
    SETTLED_W,
    count_energy,
    follow_power,
    plan_mark,
    warmed_w,
)
from envs.simulator.kernel.views import (
    arrivals_of,
    engine_at,
    model_of,
    prefilling_of,
    requests_of,
)
from envs.simulator.step_model import idle_power_w


@kernel
def run_until(server: Server) -> int:
    """Runs one server until the end of its control interval.

    Returns:
        ``DONE``, or ``NEEDS_REQUESTS`` when the buffer of requests has run dry: refill it and
        call again.
    """
    _take_knobs(server)
    plan_mark(server)
    for index in range(server.replicas):  # the queue may have been moved since
        engine_at(server, index).queue_head = server.queue_head
    until = server.until_s
    closed_loop = server.concurrency > 0
    while True:
        event = _next_event(server)
        if event < math.inf and server.waits_for_requests == 0:
            _pass_time(server, min(event, until))
            if event > until:
                return at.DONE if closed_loop else ingest(server, until)
            _complete_steps(server)
        now = server.now_s
        status = refill(server, now) if closed_loop else ingest(server, now)
        server.waits_for_requests = status
        if status == at.NEEDS_REQUESTS:
            return at.NEEDS_REQUESTS
        if now >= until:
            return at.DONE
        if not _start_steps(server):
            _idle(server)


@kernel
def _next_event(server: Server) -> float:
    """Returns when the first step ends, or a request comes while another engine has none."""
    end = engine_at(server, 0).step_end_s
    idle = end == math.inf
    for index in range(1, server.replicas):
        step_end = engine_at(server, index).step_end_s
        idle = idle or step_end == math.inf
        end = min(end, step_end)
    if idle and end < math.inf and server.concurrency == 0:
        return min(end, _next_arrival_s(server))
    return end


@inlined
def _next_arrival_s(server: Server) -> float:
    if server.next_arrival < server.arrivals_end:
        return float(arrivals_of(server)[server.next_arrival].arrived_s)
    return math.inf


@inlined
def _take_knobs(server: Server) -> None:
    """Sets the knobs that are asked for, within the server's limits.

    :meth:`envs.knobs.KnobLimits.clip` is the same rule for the record of a single server.
    """
    cap_w = max(server.requested.power_cap_w, server.power_cap_min_w)
    server.power_cap_w = min(cap_w, server.power_cap_max_w)
    seqs = min(max(server.requested.max_num_seqs, 1.0), server.max_num_seqs_high)
    server.max_seqs = int(seqs)
    clock_mhz = max(server.requested.sm_clock_mhz, server.sm_clock_min_mhz)
    highest_mhz = server.sm_clock_max_mhz
    server.clock_limit = min(clock_mhz, highest_mhz) / highest_mhz


@inlined
def _idle(server: Server) -> None:
    """Waits for the next request."""
    until = server.until_s
    if server.concurrency == 0:
        until = min(until, _next_arrival_s(server))
    _pass_time(server, until)


@kernel
def _pass_time(server: Server, until: float) -> None:
    """Lets time pass up to ``until``, with each engine in the step it is in or idle."""
    elapsed_s = until - server.now_s
    if elapsed_s <= 0.0:
        return
    power_w, clock, binding = 0.0, 0.0, 0.0
    for index in range(server.replicas):
        engine = engine_at(server, index)
        if engine.step_end_s < math.inf:
            drawn_w = engine.step_power_w
            clock += engine.step_clock
            binding += engine.step_binding
        else:
            drawn_w = warmed_w(engine, model_of(server), idle_power_w(model_of(server)))
            clock += server.clock_limit
        follow_power(server, engine, elapsed_s, drawn_w)
        power_w += drawn_w
    if server.replicas > 1:
        power_w, clock = power_w / server.replicas, clock / server.replicas
        binding /= server.replicas
    count_energy(server, until, power_w)
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
    if abs(gap) < SETTLED_W:
        gap = 0.0
    server.cap_in_force_w = server.power_cap_w + gap


@kernel
def _complete_steps(server: Server) -> None:
    """Applies what the steps (or runs of equal steps) that end now have brought about."""
    for index in range(server.replicas):
        engine = engine_at(server, index)
        if engine.step_end_s <= server.now_s:
            _complete_step(server, engine)


@kernel
def _complete_step(server: Server, engine: Engine) -> None:
    engine.step_end_s = math.inf
    steps, decoding = engine.steps_in_flight, engine.decoding
    engine.iteration += steps
    server.output_tokens += steps * decoding
    engine.context_tokens += steps * decoding
    advance_phase(engine, steps)
    if engine.prefilling > 0:
        _complete_prompts(server, engine)
    while next_finish(engine) <= engine.iteration:
        record_finished(server, engine, leave_finished(engine))
        if server.concurrency > 0:
            server.in_flight -= 1


@kernel
def _complete_prompts(server: Server, engine: Engine) -> None:
    """Counts computed prompt tokens; requests whose prompt is done begin to decode."""
    requests = requests_of(engine)
    prefilling = prefilling_of(engine)
    count = engine.prefilling
    engine.prefilling = 0
    for position in range(count):
        slot = prefilling[position]
        computed = requests[slot].computed_tokens
        fresh = min(computed, requests[slot].prompt_tokens) - requests[slot].counted_tokens
        if fresh > 0:
            server.prompt_tokens += fresh
            requests[slot].counted_tokens += fresh
        if computed < requests[slot].prompt_tokens + requests[slot].generated_tokens:
            prefilling[0] = slot  # only the last one can lack tokens: the budget ended there
            engine.prefilling = 1
            return
        requests[slot].generated_tokens += 1
        server.output_tokens += 1
        if requests[slot].first_token_s < 0.0:
            record_first_token(server, engine, slot)
        to_come = requests[slot].output_tokens - requests[slot].generated_tokens
        requests[slot].finish_at = engine.iteration + to_come
        join(engine, slot)


@inlined
def _start_steps(server: Server) -> bool:
    """Starts a step of each engine that has none in flight; returns False when all are idle."""
    started, first = False, 0
    while first < server.replicas:
        if engine_at(server, first).step_end_s < math.inf or start_steps(server, first):
            started = True
        first += server.lockstep
    return started
