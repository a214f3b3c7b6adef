"""Controllers without a model: static, random, governor, bandit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from baselines.governor import Governor
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


def test_static_is_the_papers_baseline(make_context: MakeContext, observe: Any) -> None:
    controller = bound("static", make_context())
    for budget in (float("inf"), 700.0):
        assert decide(controller, observe, power_budget_w=budget)[0] == Knobs(400.0, 64)


def test_static_takes_its_setting_from_the_configuration(
    make_context: MakeContext, observe: Any
) -> None:
    context = make_context()
    choice = {"base": "static", "power_cap_w": 225.0, "max_num_seqs": 16}
    assert decide(bound(choice, context), observe)[0] == Knobs(225.0, 16)
    choice = {"base": "static", "power_cap_w": 9999.0, "max_num_seqs": 4096}
    assert decide(bound(choice, context), observe)[0] == Knobs(400.0, 64)


def test_static_can_respect_a_budget(make_context: MakeContext, observe: Any) -> None:
    controller = bound({"base": "static", "respect_budget": True}, make_context())
    assert decide(controller, observe, power_budget_w=1100.0)[0] == Knobs(250.0, 64)
    assert decide(controller, observe)[0] == Knobs(400.0, 64)


def test_random_is_uniform_over_the_grid(make_context: MakeContext, observe: Any) -> None:
    controller = bound("random", make_context())
    counts: Counter[Knobs] = Counter()
    state = None
    draws = 3600
    for _ in range(draws):
        knobs, state = decide(controller, observe, state)
        counts[knobs] += 1
    assert set(counts) == set(controller.context.grid.choices)
    expected = draws / 36
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 66.6  # 99.9 % quantile with 35 degrees of freedom


def test_random_depends_on_seed_and_episode_and_can_hold(
    make_context: MakeContext, observe: Any
) -> None:
    def sequence(choice: Any, throughput: float) -> list[Knobs]:
        controller, state, chosen = bound(choice, make_context()), None, []
        for _ in range(12):
            knobs, state = decide(controller, observe, state, throughput_tok_s=throughput)
            chosen.append(knobs)
        return chosen

    one = sequence("random", 100.0)
    assert one == sequence("random", 100.0)
    assert one != sequence({"base": "random", "seed": 1}, 100.0)
    assert one != sequence("random", 101.0)
    held = sequence({"base": "random", "hold": 4}, 100.0)
    assert all(len(set(held[i : i + 4])) == 1 for i in (0, 4, 8))
    assert len(set(held)) > 1


def governor(context: ControlContext, **values: float) -> Governor:
    controller: Governor = bound({"base": "governor", **values}, context)
    return controller


BELOW = {"throughput_tok_s": 900.0}
"""Below the target of 1,000 tokens/s, so that only the occupancy counts."""


def test_governor_rises_with_the_queue_at_once(make_context: MakeContext, observe: Any) -> None:
    controller = governor(make_context(), low=0.25, high=0.75)
    levels = []
    for requests in (0, 8, 16, 28, 36, 44, 48, 64):
        knobs, _ = decide(controller, observe, running=requests, **BELOW)
        levels.append(knobs.power_cap_w)
        assert knobs.max_num_seqs == 64
    assert levels == [150, 150, 200, 250, 300, 350, 400, 400]


def test_governor_counts_waiting_requests_too(make_context: MakeContext, observe: Any) -> None:
    controller = governor(make_context(), low=0.5, high=1.0)
    assert decide(controller, observe, running=8, **BELOW)[0].power_cap_w == 150.0
    assert decide(controller, observe, running=8, waiting=99, **BELOW)[0].power_cap_w == 400.0


def test_governor_takes_a_full_kv_cache_for_a_full_batch(
    make_context: MakeContext, observe: Any
) -> None:
    controller = governor(make_context(), low=0.5, high=1.0)
    few = {"running": 10, **BELOW}
    assert decide(controller, observe, kv_cache_usage=0.3, **few)[0].power_cap_w == 150.0
    assert decide(controller, observe, kv_cache_usage=0.75, **few)[0].power_cap_w == 300.0
    full = decide(controller, observe, kv_cache_usage=0.9, waiting=5, **few)[0]
    assert full.power_cap_w == 400.0


def test_governor_needs_no_target(make_context: MakeContext, observe: Any) -> None:
    controller = governor(make_context(), low=0.5, high=1.0)
    knobs, _ = decide(controller, observe, running=64, target_tok_s=0.0)
    assert knobs.power_cap_w == 400.0


def test_governor_falls_slowly_and_a_level_at_a_time(
    make_context: MakeContext, observe: Any
) -> None:
    controller = governor(make_context(), low=0.25, high=0.75, margin=0.05, hold_s=1.0)
    knobs, state = decide(controller, observe, running=64, **BELOW)
    caps = []
    for _ in range(10):
        knobs, state = decide(controller, observe, state, running=0, **BELOW)
        caps.append(knobs.power_cap_w)
    assert caps == [400, 350, 350, 300, 300, 250, 250, 200, 200, 150]


def test_governor_does_not_flap_at_a_threshold(make_context: MakeContext, observe: Any) -> None:
    controller = governor(make_context(), low=0.25, high=0.75, margin=0.05, hold_s=1.0)
    state, caps = None, set()
    for index in range(40):
        knobs, state = decide(controller, observe, state, running=16 - index % 2, **BELOW)
        caps.add(knobs.power_cap_w)
    assert caps == {200.0}


def fallen(controller: Governor, observe: Any, **values: float) -> float:
    """Returns the cap that a full server has after a while under the given observations."""
    knobs, state = decide(controller, observe, running=64, waiting=50, **BELOW)
    assert knobs.power_cap_w == 400.0
    for _ in range(60):
        knobs, state = decide(controller, observe, state, running=64, waiting=50, **values)
    return float(knobs.power_cap_w)


def test_governor_saves_energy_where_a_full_server_is_above_its_target(
    make_context: MakeContext, observe: Any
) -> None:
    controller = governor(make_context(), low=0.5, high=1.0, surplus=0.05)
    assert fallen(controller, observe, throughput_tok_s=1100.0) == 150.0
    assert fallen(controller, observe, throughput_tok_s=1020.0) == 400.0


def test_governor_does_not_buy_energy_with_queueing(
    make_context: MakeContext, observe: Any
) -> None:
    controller = governor(make_context(), low=0.5, high=1.0, patience_s=2.0)
    above = {"throughput_tok_s": 1100.0}
    assert fallen(controller, observe, oldest_wait_s=1.5, **above) == 150.0
    assert fallen(controller, observe, oldest_wait_s=2.5, **above) == 400.0
    assert fallen(controller, observe, oldest_wait_s=1.5, ttft_slo_s=2.0, **above) == 400.0


@pytest.mark.parametrize(
    "values", [{"low": 0.9, "high": 0.3}, {"margin": -1.0}, {"patience_s": -1.0}]
)
def test_impossible_thresholds_name_their_key(values: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=f"controller.{next(iter(values))}"):
        catalog.build("controller", {"base": "governor", **values})


def play_bandit(
    make_context: MakeContext, observe: Any, best_cap: float, steps: int, **values: float
) -> list[Knobs]:
    """A stationary server whose efficiency peaks at one cap and batch limit 32."""
    controller = bound({"base": "bandit", "hold_s": 1.0, "settle_s": 0.5, **values}, make_context())
    rng = np.random.default_rng(0)
    state, chosen = None, []
    knobs = Knobs(400.0, 64)
    for _ in range(steps):
        distance = abs(knobs.power_cap_w - best_cap) / 250.0 + 0.3 * (knobs.max_num_seqs != 32)
        power = 500.0 * (1.0 + distance) * rng.uniform(0.95, 1.05)
        knobs, state = decide(controller, observe, state, power_w=power)
        chosen.append(knobs)
    return chosen


@pytest.mark.parametrize("best_cap", [150.0, 250.0, 400.0])
def test_bandit_finds_the_most_efficient_setting(
    make_context: MakeContext, observe: Any, best_cap: float
) -> None:
    chosen = play_bandit(make_context, observe, best_cap, 1200)
    last = Counter(chosen[-300:])
    assert last.most_common(1)[0][0] == Knobs(best_cap, 32)


def test_bandit_tries_every_arm_and_holds_it(make_context: MakeContext, observe: Any) -> None:
    chosen = play_bandit(make_context, observe, 250.0, 24)
    assert len(set(chosen)) == 12
    assert chosen[0::2] == chosen[1::2]
    assert {knobs.max_num_seqs for knobs in chosen} == {32, 64}


def test_bandit_avoids_settings_that_violate(make_context: MakeContext, observe: Any) -> None:
    controller = bound({"base": "bandit", "hold_s": 1.0, "settle_s": 0.0}, make_context())
    state, chosen = None, []
    knobs = Knobs(400.0, 64)
    for _ in range(600):
        slow = knobs.power_cap_w < 300.0
        knobs, state = decide(
            controller,
            observe,
            state,
            power_w=2.5 * knobs.power_cap_w,
            throughput_tok_s=500.0 if slow else 1000.0,
            output_tok_s=500.0 if slow else 1000.0,
            waiting=20.0 if slow else 0.0,
        )
        chosen.append(knobs)
    late = chosen[-200:]
    assert sum(knobs.power_cap_w >= 300.0 for knobs in late) > 0.9 * len(late)


@pytest.mark.parametrize(
    "values", [{"settle_s": 9.0}, {"discount": 0.0}, {"batch_fraction": 2.0}, {"penalty": -1.0}]
)
def test_impossible_bandits_name_their_key(values: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=f"controller.{next(iter(values))}"):
        catalog.build("controller", {"base": "bandit", **values})
