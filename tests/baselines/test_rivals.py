"""Rivals from the literature: the contextual bandit, latency slack, the price of switching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from envs import catalog
from envs.context import ControlContext
from envs.errors import ConfigurationError
from envs.knobs import Knobs

MakeContext = Callable[..., ControlContext]


def decide(controller: Any, observe: Any, state: Any = None, **values: float) -> tuple[Knobs, Any]:
    observation = controller.context.layout.decode(observe(**values))
    knobs, state = controller.decide(observation, state)
    return knobs, state


def bound(choice: Any, context: ControlContext) -> Any:
    controller = catalog.build("controller", choice)
    controller.bind(context)
    return controller


def play_linucb(make_context: MakeContext, observe: Any, steps: int, **values: Any) -> list[float]:
    """A server that does best with the lowest cap when it is calm, with the highest when busy."""
    controller = bound({"base": "linucb", "hold_s": 0.5, **values}, make_context())
    state, caps = None, []
    knobs = Knobs(400.0, 64)
    for step in range(steps):
        busy = step // 20 % 2 == 1
        level = (knobs.power_cap_w - 150.0) / 250.0
        distance = 1.0 - level if busy else level
        knobs, state = decide(
            controller, observe, state, running=60.0 if busy else 8.0,
            power_w=400.0 * (1.0 + 2.0 * distance),
        )  # fmt: skip
        caps.append(knobs.power_cap_w)
    return caps


def test_linucb_learns_an_arm_for_each_load(make_context: MakeContext, observe: Any) -> None:
    caps = np.array(play_linucb(make_context, observe, 800, alpha=0.2, delay=0.0, prune_after=1e6))
    by_phase = caps.reshape(-1, 20)[-10:, 4:]
    calm, busy = by_phase[0::2].mean(), by_phase[1::2].mean()
    assert calm < 220.0
    assert busy > 330.0


def test_linucb_prunes_bad_arms(make_context: MakeContext, observe: Any) -> None:
    """Without pruning a wide bonus brings every arm back; a pruned one is tried no more."""

    def bad(prune_after: float) -> int:
        controller = bound(
            {"base": "linucb", "hold_s": 0.5, "alpha": 15.0, "delay": 0.0, "forget": 0.0,
             "prune_after": prune_after, "prune_margin": 0.3},
            make_context(),
        )  # fmt: skip
        state, knobs, late = None, Knobs(400.0, 64), 0
        for step in range(300):
            power = 300.0 if knobs.power_cap_w <= 200.0 else 1500.0
            knobs, state = decide(controller, observe, state, power_w=power, running=16.0)
            late += step > 200 and knobs.power_cap_w > 200.0
        return late

    assert bad(5.0) == 0
    assert bad(1e6) > 0


def test_linucb_keeps_to_the_budget_and_can_move_the_clock(
    make_context: MakeContext, observe: Any
) -> None:
    controller = bound("linucb", make_context())
    state = None
    for budget in (800.0, 1100.0) * 10:
        knobs, state = decide(controller, observe, state, power_budget_w=budget)
        assert knobs.power_cap_w <= budget / 4
    clocked = bound("linucb", make_context(sm_clock=True))
    state, clocks = None, set()
    for _ in range(100):
        knobs, state = decide(clocked, observe, state)
        assert knobs.power_cap_w == 400.0
        clocks.add(knobs.sm_clock_mhz)
    assert len(clocks) > 2


def test_slack_takes_the_slowest_level_that_keeps_the_slo(
    make_context: MakeContext, prepared: Any, observe: Any
) -> None:
    controller = prepared({"base": "slack", "margin": 0.0, "hold_s": 0.0}, make_context())
    times = [controller._tpot_s[-1, level] for level in range(6)]  # with 64 requests
    assert times == sorted(times, reverse=True)
    for level, tpot_s in enumerate(times):
        knobs, _ = decide(controller, observe, running=64.0, tpot_slo_s=1.001 * tpot_s)
        assert knobs.power_cap_w == controller.context.grid.power_caps_w[level]
    impossible, _ = decide(controller, observe, running=64.0, tpot_slo_s=0.5 * times[-1])
    assert impossible.power_cap_w == 400.0


def test_slack_hurries_while_a_request_waits_and_falls_later(
    make_context: MakeContext, prepared: Any, observe: Any
) -> None:
    controller = prepared({"base": "slack", "stretch": 3.0, "hold_s": 1.0}, make_context())
    knobs, state = decide(controller, observe, running=8.0, oldest_wait_s=0.6)
    assert knobs.power_cap_w == 400.0
    with_slo, _ = decide(controller, observe, state, running=8.0, oldest_wait_s=0.6, ttft_slo_s=5.0)
    assert with_slo.power_cap_w == 400.0  # it must have been enough for a while
    caps = []
    for _ in range(3):
        knobs, state = decide(controller, observe, state, running=8.0)
        caps.append(knobs.power_cap_w)
    assert caps[0] == 400.0
    assert caps[-1] < 400.0
    over, _ = decide(controller, observe, state, running=8.0, oldest_wait_s=3.0, ttft_slo_s=5.0)
    assert over.power_cap_w == 400.0


def test_slack_moves_the_clock_where_it_is_a_knob(
    make_context: MakeContext, prepared: Any, observe: Any
) -> None:
    controller = prepared({"base": "slack", "hold_s": 0.0}, make_context(sm_clock=True))
    knobs, _ = decide(controller, observe, running=64.0, power_budget_w=1100.0)
    assert knobs.power_cap_w == 250.0
    assert knobs.sm_clock_mhz < 1410.0


def test_slack_needs_a_profile(make_context: MakeContext, observe: Any) -> None:
    with pytest.raises(ConfigurationError, match="prepare"):
        decide(bound("slack", make_context()), observe)


def test_paying_for_switches_switches_less(make_context: MakeContext, observe: Any) -> None:
    def switches(name: str) -> int:
        controller = bound({"base": name, "hold_s": 1.0, "settle_s": 0.5}, make_context())
        rng = np.random.default_rng(0)
        state, knobs, count = None, Knobs(400.0, 64), 0
        for step in range(800):
            power = 1000.0 + 0.2 * knobs.power_cap_w + 100.0 * rng.normal()
            before = knobs
            knobs, state = decide(controller, observe, state, power_w=power)
            count += step > 100 and knobs != before
        return count

    assert switches("bandit_switching") < 0.5 * switches("bandit")


def test_pals_hurries_while_requests_wait(
    make_context: MakeContext, prepared: Any, observe: Any
) -> None:
    waits = {"waiting": 3.0, "oldest_wait_s": 1.5}
    plain = prepared({"base": "pals", "settle_s": 0.0}, make_context())
    aware = prepared({"base": "pals_queue_aware", "settle_s": 0.0}, make_context())
    for controller, hurries in ((plain, False), (aware, True)):
        calm, state = decide(controller, observe)
        assert calm.power_cap_w < 400.0
        knobs, state = decide(controller, observe, state, **waits)
        assert (knobs.power_cap_w == 400.0) is hurries
        after, _ = decide(controller, observe, state)
        assert after == calm
    _, state = decide(aware, observe)
    in_time, _ = decide(aware, observe, state, waiting=3.0, oldest_wait_s=0.5)
    assert in_time.power_cap_w < 400.0
