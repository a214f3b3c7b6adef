"""Power in time: what a limit acts on, how the chip warms, and what the sensor shows.

A power limit holds the mean over about a tenth of a second: a shorter burst, such as the prompt
of one request, passes above it. The sensor shows the mean over its own window, which is shorter
or longer than that. And a chip warms within seconds, by which its leakage grows.
"""

from __future__ import annotations

import math

from envs.compiled.jit import inlined, kernel
from envs.simulator.kernel.layout import MARKS, Engine, Server
from envs.simulator.step_layout import StepModel

SETTLED_W = 0.5
"""Watts below which what moves towards a power counts as there."""


@inlined
def count_energy(server: Server, until: float, power_w: float) -> None:
    """Counts energy at constant power up to a time; the clock has not moved on yet."""
    elapsed_s = until - server.now_s
    if server.mark_s <= until:
        _mark(server, server.mark_s, server.spent_j + power_w * (server.mark_s - server.now_s))
        server.mark_s = math.inf
    energy_j = power_w * elapsed_s
    server.gpu_energy_j += energy_j
    server.spent_j += energy_j


@inlined
def follow_power(server: Server, engine: Engine, elapsed_s: float, power_w: float) -> None:
    """Moves what follows the power of an engine's GPUs on by the time elapsed."""
    engine.limited_w = _followed(engine.limited_w, power_w, elapsed_s, server.limit_window_s)
    engine.warm_w = _followed(engine.warm_w, power_w, elapsed_s, server.warming_s)


@inlined
def _followed(mean_w: float, power_w: float, elapsed_s: float, tau_s: float) -> float:
    """Returns where a mean that follows the power with a time constant is after a time."""
    kept = math.exp(-elapsed_s / tau_s) if tau_s > 0.0 else 0.0
    return power_w + (mean_w - power_w) * kept


@inlined
def below_limit(server: Server, engine: Engine, cap_w: float) -> bool:
    """Whether the mean that the limit acts on leaves room for a burst above it."""
    return server.limit_window_s > 0.0 and engine.limited_w < cap_w - SETTLED_W


@inlined
def free_steps(server: Server, engine: Engine, time_s: float, power_w: float, cap_w: float) -> int:
    """Returns how many steps above the limit its mean allows; the power is above the cap."""
    gap = (power_w - engine.limited_w) / (power_w - cap_w)
    return int(server.limit_window_s * math.log(gap) / time_s)


@inlined
def burst_cap_w(server: Server, engine: Engine, time_s: float, cap_w: float) -> float:
    """Returns the power at which the mean that the limit acts on reaches the cap in a time."""
    kept = math.exp(-time_s / server.limit_window_s)
    return cap_w + (cap_w - engine.limited_w) * kept / (1.0 - kept)


@inlined
def warmed_w(engine: Engine, model: StepModel, power_w: float) -> float:
    """Returns a power with the leakage of a chip that is not yet as warm as it makes it."""
    return power_w + model.warming * (engine.warm_w - power_w)


@inlined
def steady_w(engine: Engine, model: StepModel, power_w: float) -> float:
    """Returns the power of a chip in balance whose :func:`warmed_w` is the given one."""
    return (power_w - model.warming * engine.warm_w) / (1.0 - model.warming)


@kernel
def plan_mark(server: Server) -> None:
    """Chooses when in the interval to note the energy.

    If all intervals are as long as this one, a window that ends where some later interval
    ends begins at that offset in one of them: the mean over the window is then exact.
    """
    length_s = server.until_s - server.interval_start_s
    if length_s > 0.0:
        window_s = server.sensor_window_s
        offset_s = window_s - math.floor(window_s / length_s) * length_s
        server.mark_s = max(server.until_s - offset_s, server.now_s)


@kernel
def _mark(server: Server, time_s: float, spent_j: float) -> None:
    slot = server.marks % MARKS
    server.mark_times_s[slot] = time_s
    server.mark_spent_j[slot] = spent_j
    server.marks += 1


@kernel
def window_mean_w(server: Server) -> float:
    """Returns the mean power of one GPU over the sensor's window, which ends now."""
    begin_s = server.now_s - server.sensor_window_s
    later_s, later_j = server.now_s, server.spent_j
    oldest = max(0, server.marks - MARKS)
    index = server.marks - 1
    while index >= oldest:
        time_s: float = server.mark_times_s[index % MARKS]
        spent_j: float = server.mark_spent_j[index % MARKS]
        if time_s <= begin_s:
            fraction = (begin_s - time_s) / (later_s - time_s)
            spent_j += fraction * (later_j - spent_j)
            return (server.spent_j - spent_j) / server.sensor_window_s
        later_s, later_j = time_s, spent_j
        index -= 1
    return (server.spent_j - later_j) / (server.now_s - later_s)
