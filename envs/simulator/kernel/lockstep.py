"""One control interval of many simulated servers: knobs, simulation, evaluation, observation."""

from __future__ import annotations

from numba import prange

from envs.compiled import control as loop_at
from envs.compiled.jit import entry_point, inlined
from envs.compiled.pointers import Ints
from envs.simulator.kernel import layout as at
from envs.simulator.kernel.entry import advance_one
from envs.simulator.kernel.views import numbers_of


@inlined
def _give_knobs(loop: int, server: int) -> None:
    wanted, numbers = loop_at.numbers_of(loop), numbers_of(server)
    for knob in range(3):
        numbers[at.ASKED_CAP_W + knob] = wanted[loop_at.ASKED + knob]


@inlined
def _give_slos(loop: int, server: int) -> None:
    demands, numbers = loop_at.numbers_of(loop), numbers_of(server)
    numbers[at.TTFT_SLO_S] = demands[loop_at.COMING + loop_at.CONDITION.ttft_slo_s]
    numbers[at.TPOT_SLO_S] = demands[loop_at.COMING + loop_at.CONDITION.tpot_slo_s]


@entry_point(parallel=True)
def step_many(pending: Ints, loops: Ints, servers: Ints, status: Ints) -> None:
    """Lets one interval pass on many servers in parallel.

    Args:
        pending: Which servers.
        loops: Address of each server's row in the control loop.
        servers: Address of each server's row in the engine.
        status: Of each server, what :func:`advance_one` returns is written here.
    """
    for position in prange(len(pending)):
        index = pending[position]
        _give_knobs(loops[index], servers[index])
        status[index] = advance_one(servers[index])
        if status[index] == at.DONE:
            loop_at.follow(loops[index])
            _give_slos(loops[index], servers[index])
