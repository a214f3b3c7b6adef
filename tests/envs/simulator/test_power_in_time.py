"""Power in time: bursts above a limit, a chip that warms, and what a sensor shows of both."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.server_specs import Given, make_server

from envs.knobs import Knobs
from envs.simulator.server import SimulatedServer

ONE_A100 = {"model": "llama2_7b", "gpu": "a100_sxm4_80gb"}
EVERY_S = 0.02


def watts(server: SimulatedServer, cap_w: float, seconds: float, every_s: float = EVERY_S):
    """Mean power of one GPU in short windows."""
    server.reset(0)
    server.apply(Knobs(cap_w, 64, None))
    rows = [server.advance(every_s) for _ in range(round(seconds / every_s))]
    return np.array([row.energy_gpu_j / every_s / server.num_gpus for row in rows])


def test_a_short_burst_passes_above_the_limit_and_a_long_one_does_not() -> None:
    """One short prompt draws what it would without a cap; of a long one, the mean is held."""
    cap_w = 300.0
    short = make_server(Given([(1.0, 200, 1)]), **ONE_A100)
    free, held = watts(short, 400.0, 2.0), watts(short, cap_w, 2.0)
    assert free.max() > cap_w
    np.testing.assert_allclose(held, free)
    long = make_server(Given([(1.0, 1900, 1)] * 6), **ONE_A100)
    held = watts(long, cap_w, 4.0)
    assert held.max() > cap_w + 20.0, "it begins with a burst"
    busy = held[np.flatnonzero(held > cap_w - 20.0)]
    assert np.median(busy) == pytest.approx(cap_w, abs=2.0)


def test_the_mean_that_a_limit_acts_on_never_passes_it() -> None:
    """The limit's mean follows the power with 0.1 s; beginning below, it stays at or below."""
    cap_w = 250.0
    server = make_server(Given([(1.0, 900, 60)] * 12), exact_steps=True, **ONE_A100)
    server.reset(0)
    server.apply(Knobs(cap_w, 64, None))
    server.advance(0.9)
    highest = 0.0
    for _ in range(400):
        server.advance(0.01)
        highest = max(highest, float(server._fleet.states._engines[0].limited_w.max()))
    assert cap_w - 5.0 < highest <= cap_w + 1e-6


def test_leakage_follows_the_chips_warmth() -> None:
    """Right after work a server idles at more power than before it, and comes back to that."""
    server = make_server(Given([(10.0, 50, 1500)] * 32), **ONE_A100)
    power = watts(server, 400.0, 200.0, every_s=1.0)
    idle_w = server.server_spec.gpu.idle_power_w
    assert power[5] == pytest.approx(idle_w)
    begin = int(np.argmax(power > idle_w + 50.0))
    done = begin + int(np.argmax(power[begin:] < idle_w + 50.0)) + 1
    assert power[done] > idle_w + 1.0
    assert np.all(np.diff(power[done:]) <= 1e-9)
    tau = server.server_spec.coefficients.warming_s
    excess = power[done : done + 20] - idle_w
    assert excess[10] / excess[0] == pytest.approx(math.exp(-10.0 / tau), rel=2e-2)
    working = power[begin + 5 : done - 5]
    assert working[-1] > working[0]


def test_an_a100_shows_a_moment_and_an_h100_a_second() -> None:
    requests = [(2.0, 100, 400)] * 8
    moment = make_server(Given(requests), **ONE_A100)
    second = make_server(Given(requests), model="llama2_7b", gpu="h100_sxm")
    shown = {}
    for name, server in (("a100", moment), ("h100", second)):
        server.reset(0)
        shown[name] = np.array([server.advance(0.1).power_w for _ in range(60)])
    for name, delay in (("a100", 2), ("h100", 10)):
        levels = shown[name]
        settled = levels[45]
        rise = int(np.argmax(levels > levels[0] + 1.0))
        reached = int(np.argmax(np.abs(levels - settled) < 0.05 * settled))
        assert reached - rise <= delay, name
    assert np.ptp(shown["h100"][21:31]) > 100.0, "a straight rise over a second"
