"""The start of a step: of one engine, or of those that meet at the same experts.

Replicas that hold the experts of one model together step in lockstep: every layer's tokens meet
at the experts, so that each step takes as long as the slowest engine's. While one has work, the
others compute a token nobody asked for, as vLLM's ``DPEngineCoreProc`` has them do.
"""

from __future__ import annotations

import math

from envs.compiled.jit import inlined, kernel
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.layout import Engine, Server
from envs.simulator.kernel.power_in_time import (
    below_limit,
    burst_cap_w,
    free_steps,
    steady_w,
    warmed_w,
)
from envs.simulator.kernel.prefix import learn_decoded
from envs.simulator.kernel.schedule import (
    blocks_for_run,
    blocks_for_step,
    plan_step,
    steps_until_change,
    take_blocks,
)
from envs.simulator.kernel.views import engine_at, model_of
from envs.simulator.step_model import resolve_step, waiting_power_w

SYNC_STEPS = 16
"""Steps between two looks at whether anybody has work (vLLM's ``dp_sync_interval``)."""


@kernel
def start_steps(server: Server, first: int) -> bool:
    """Starts a step, or a run of equal ones, of the engines that step together.

    Args:
        server: The server.
        first: The first of these engines.

    Returns:
        False when there is nothing to do.
    """
    busy, mixed = False, False
    for index in range(first, first + server.lockstep):
        engine = engine_at(server, index)
        busy = plan_step(server, engine) or busy
        mixed = mixed or engine.step_tokens > 0
    if not busy and not _winds_down(server, first):
        return False
    if mixed:
        _launch_mixed(server, first)
    else:
        _launch_decoding(server, first)
    return True


@inlined
def _winds_down(server: Server, first: int) -> bool:
    """Whether engines without work go on until they look again whether anybody has some."""
    leader = engine_at(server, first)
    passed = leader.wave_steps
    if server.lockstep == 1 or passed <= 1 or passed % SYNC_STEPS == 0:
        leader.wave_steps = 0
        return False
    leader.step_limit = SYNC_STEPS - passed % SYNC_STEPS
    return True


@inlined
def _launch_mixed(server: Server, first: int) -> None:
    """Starts a step in which some engine computes prompt tokens."""
    time_s, _ = _resolve(server, first, 1, server.cap_in_force_w)
    for index in range(first, first + server.lockstep):
        engine = engine_at(server, index)
        if engine.step_tokens == 0:
            take_blocks(engine, blocks_for_step(engine))
    _launch(server, first, 1, time_s)


@kernel
def _launch_decoding(server: Server, first: int) -> None:
    """Starts a run of steps that only decode, as many as may be taken at once."""
    leader = engine_at(server, first)
    in_force_w, asked_w = server.cap_in_force_w, server.power_cap_w
    steps = _run_length(server, first, leader.decoding_step_s, at.NEVER)
    if steps > 1 and in_force_w != asked_w:
        # A cap that moves and binds changes from step to step; one that does not, changes
        # nothing at all.
        _, binding = _resolve(server, first, steps, min(in_force_w, asked_w))
        if binding > 0.0:
            steps = _run_length(server, first, 0.0, 1)
    time_s, binding = _resolve(server, first, steps, in_force_w)
    while steps > 1 and time_s > leader.decoding_step_s:
        # The length of the run rests on a step time that was too short.
        leader.decoding_step_s = time_s
        shorter = _run_length(server, first, time_s, steps)
        if shorter == steps:
            break
        steps = shorter
        time_s, binding = _resolve(server, first, steps, in_force_w)
    leader.decoding_step_s = time_s
    if steps > 1 and binding > 0.0 and _leaves_room(server, first, in_force_w):
        # It begins above the limit, by as much as the mean allows: a step by itself.
        steps = _run_length(server, first, 0.0, 1)
        time_s, _ = _resolve(server, first, 1, in_force_w)
    _take_for_run(server, leader, steps)
    for index in range(first + 1, first + server.lockstep):
        _take_for_run(server, engine_at(server, index), steps)
    _launch(server, first, steps, time_s)


@inlined
def _leaves_room(server: Server, first: int, cap_w: float) -> bool:
    """Whether the limit of some engine leaves room for a burst above it."""
    room = False
    for index in range(first, first + server.lockstep):
        room = room or below_limit(server, engine_at(server, index), cap_w)
    return room


@inlined
def _take_for_run(server: Server, engine: Engine, steps: int) -> None:
    """Takes the blocks of a run of steps that only decode."""
    take_blocks(engine, engine.step_blocks)
    if engine.caches and steps > 1:
        learn_decoded(server, engine, steps)


@inlined
def _run_length(server: Server, first: int, step_s: float, most: int) -> int:
    """Returns how many steps of a length the engines may take at once, ``most`` at most."""
    leader = engine_at(server, first)
    limit = min(leader.step_limit, steps_until_change(server, leader, step_s))
    steps, leader.step_blocks = blocks_for_run(leader, min(most, limit))
    if server.lockstep > 1:
        steps = _shared_run_length(server, first, step_s, steps)
    return steps


@kernel
def _shared_run_length(server: Server, first: int, step_s: float, most: int) -> int:
    """Returns how many steps all engines that step together may take, and counts the blocks."""
    steps = most
    for index in range(first + 1, first + server.lockstep):
        engine = engine_at(server, index)
        limit = min(engine.step_limit, steps_until_change(server, engine, step_s))
        steps, _ = blocks_for_run(engine, min(steps, limit))
    for index in range(first, first + server.lockstep):
        engine = engine_at(server, index)
        _, engine.step_blocks = blocks_for_run(engine, steps)
    return steps


@inlined
def _resolve(server: Server, first: int, steps: int, cap_w: float) -> tuple[float, float]:
    """Works out the step in the middle of a run.

    Returns:
        Its time, and whether the cap sets the clock of any engine.
    """
    model = model_of(server)
    met = -1.0
    if server.lockstep > 1:
        met = _tokens_that_meet(server, first)
    longest, binding = 0.0, 0.0
    for index in range(first, first + server.lockstep):
        engine = engine_at(server, index)
        decoding, tokens = engine.decoding, engine.step_tokens
        if decoding + tokens == 0:
            decoding = 1  # a token that nobody asked for
        context = engine.context_tokens + decoding * (1.0 + 0.5 * (steps - 1))
        time_s, power_w, clock, bound = resolve_step(
            model, float(decoding), context, float(tokens), engine.step_pairs,
            steady_w(engine, model, cap_w), server.clock_limit, met,
        )  # fmt: skip
        if steps == 1 and bound > 0.0 and below_limit(server, engine, cap_w):
            time_s, power_w, clock, bound = _resolve_burst(
                server, engine, float(decoding), context, met, time_s, cap_w
            )
        engine.step_time_s, engine.step_power_w = time_s, warmed_w(engine, model, power_w)
        engine.step_clock, engine.step_binding = clock, bound
        longest, binding = max(longest, time_s), max(binding, bound)
    if server.lockstep > 1:
        _wait_for_slowest(server, first, longest)
    return longest, binding


@kernel
def _resolve_burst(
    server: Server, engine: Engine, decoding: float, context: float, met: float,
    held_s: float, cap_w: float,
) -> tuple[float, float, float, float]:  # fmt: skip
    """Works out a single step that begins while the limit leaves room for a burst above it.

    It draws what it would without a cap if the mean then stays at or below it, else what lets
    the mean reach the cap in the time that the step takes under it, ``held_s``.
    """
    model, tokens = model_of(server), float(engine.step_tokens)
    free = resolve_step(
        model, decoding, context, tokens, engine.step_pairs, math.inf, server.clock_limit, met
    )
    power_w = warmed_w(engine, model, free[1])
    if free_steps(server, engine, free[0], power_w, cap_w) > 0:
        return free
    burst_w = steady_w(engine, model, burst_cap_w(server, engine, held_s, cap_w))
    return resolve_step(
        model, decoding, context, tokens, engine.step_pairs, burst_w, server.clock_limit, met
    )


@kernel
def _tokens_that_meet(server: Server, first: int) -> float:
    """Returns the tokens of all engines that step together, which meet at the experts."""
    met = 0
    for index in range(first, first + server.lockstep):
        engine = engine_at(server, index)
        met += max(1, engine.decoding + engine.step_tokens)
    return float(met)


@kernel
def _wait_for_slowest(server: Server, first: int, step_s: float) -> None:
    """Spreads the energy of each engine's own work over the time that the step takes."""
    wait_w = waiting_power_w(model_of(server))
    for index in range(first, first + server.lockstep):
        engine = engine_at(server, index)
        fraction = engine.step_time_s / step_s
        engine.step_power_w = engine.step_power_w * fraction + wait_w * (1.0 - fraction)


@inlined
def _launch(server: Server, first: int, steps: int, time_s: float) -> None:
    """Notes the run of steps in flight."""
    leader = engine_at(server, first)
    leader.wave_steps += steps
    for index in range(first, first + server.lockstep):
        engine = engine_at(server, index)
        engine.steps_in_flight = steps
        engine.step_end_s = server.now_s + steps * time_s
        server.steps += steps
