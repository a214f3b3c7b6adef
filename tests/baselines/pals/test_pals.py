"""Algorithm 1, line by line, and the variants that move one knob."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from baselines.pals.predictor import ForestConfig, predictor_for
from baselines.profile import Profile
from envs import catalog
from envs.context import ControlContext
from envs.errors import ConfigurationError
from envs.knobs import Knobs

MakeContext = Callable[..., ControlContext]
NO_PID = {"kp": 0.0, "ki": 0.0, "kd": 0.0}


@pytest.fixture
def pals(make_context: MakeContext, prepared: Any) -> Callable[..., Any]:
    def build(name: str = "pals", **values: Any) -> Any:
        return prepared({"base": name, "settle_s": 0.0, **values}, make_context())

    return build


@pytest.fixture
def table(profile: Profile, make_context: MakeContext) -> dict[Knobs, tuple[float, float]]:
    """What the forests predict: throughput and power per setting."""
    grid = make_context().grid
    predicted = predictor_for(profile, ForestConfig(trees=10)).tabulate(grid, profile)
    pairs = zip(predicted.throughput_tok_s.ravel(), predicted.power_w.ravel(), strict=True)
    return dict(zip(grid.choices, pairs, strict=True))


def play(controller: Any, observe: Any, episode: list[dict[str, float]]) -> list[Knobs]:
    state, chosen = None, []
    for values in episode:
        observation = controller.context.layout.decode(observe(**values))
        knobs, state = controller.decide(observation, state)
        chosen.append(knobs)
    return chosen


def first(controller: Any, observe: Any, **values: float) -> Knobs:
    return play(controller, observe, [values])[0]


@pytest.mark.parametrize("target", [200.0, 700.0, 1000.0, 1300.0, 1700.0])
@pytest.mark.parametrize("budget", [math.inf, 1200.0, 800.0])
def test_the_choice_is_the_most_efficient_that_reaches_the_target(
    pals: Any, observe: Any, table: dict[Knobs, tuple[float, float]], target: float, budget: float
) -> None:
    controller = pals(feedback=NO_PID)
    chosen = first(controller, observe, target_tok_s=target, power_budget_w=budget)
    feasible = {knobs for knobs in table if 4 * knobs.power_cap_w <= budget}
    enough = {knobs for knobs in feasible if table[knobs][0] >= target}
    if enough:
        expected = max(enough, key=lambda knobs: table[knobs][0] / table[knobs][1])
    else:
        expected = max(feasible, key=lambda knobs: table[knobs][0])
    assert chosen == expected


def test_without_a_target_the_most_efficient_feasible_setting_is_taken(
    pals: Any, observe: Any, table: dict[Knobs, tuple[float, float]]
) -> None:
    chosen = first(pals(), observe, target_tok_s=0.0, throughput_tok_s=0.0)
    assert chosen == max(table, key=lambda knobs: table[knobs][0] / table[knobs][1])
    low = {knobs for knobs in table if knobs.power_cap_w <= 150.0}
    chosen = first(pals(), observe, target_tok_s=0.0, power_budget_w=600.0)
    assert chosen == max(low, key=lambda knobs: table[knobs][0] / table[knobs][1])


def test_small_or_short_errors_change_nothing(pals: Any, observe: Any) -> None:
    controller = pals(threshold=0.05, sustain_s=2.0, feedback={"kp": 5.0, "ki": 0.0})
    small = [{"throughput_tok_s": 960.0}] * 50
    assert len(set(play(controller, observe, small))) == 1
    short = ([{"throughput_tok_s": 700.0}] * 3 + [{}]) * 10
    assert len(set(play(controller, observe, short))) == 1


def test_a_sustained_error_changes_the_choice_after_its_time(pals: Any, observe: Any) -> None:
    controller = pals(threshold=0.05, sustain_s=2.0, feedback={"kp": 2.0, "ki": 0.0})
    chosen = play(controller, observe, [{}] * 3 + [{"throughput_tok_s": 700.0}] * 6)
    assert len(set(chosen[:6])) == 1
    assert chosen[6].power_cap_w > chosen[5].power_cap_w


def test_a_changed_target_or_budget_acts_at_once(pals: Any, observe: Any) -> None:
    controller = pals(sustain_s=1e6)
    steady = [{"target_tok_s": 800.0, "throughput_tok_s": 800.0}] * 3
    raised = {"target_tok_s": 1500.0, "throughput_tok_s": 800.0}
    cut = {**raised, "power_budget_w": 1000.0}
    chosen = play(controller, observe, [*steady, raised, raised, cut, steady[0]])
    assert chosen[3].power_cap_w > chosen[2].power_cap_w
    assert chosen[5].power_cap_w <= 250.0 < chosen[4].power_cap_w
    assert chosen[6] == chosen[0]


def test_changes_too_small_to_matter_do_not_act(pals: Any, observe: Any) -> None:
    controller = pals(sustain_s=1e6, change=0.05)
    episode = [{"target_tok_s": 1000.0 + step, "throughput_tok_s": 1000.0} for step in range(45)]
    assert len(set(play(controller, observe, episode))) == 1


def test_feedback_waits_until_the_throughput_window_is_full(pals: Any, observe: Any) -> None:
    empty = [{"throughput_tok_s": 0.0}] * 20
    blind = first(pals(feedback=NO_PID), observe)
    patient = play(pals(settle_s=5.0), observe, empty)
    assert set(patient[:10]) == {blind}
    assert patient[-1] != blind
    assert play(pals(settle_s=0.0), observe, empty)[0] != blind


class Server:
    """A server that delivers a fraction of what the forests promise.

    Args:
        table: What they promise.
        fraction: How much of it is true.
        demand: What arrives, in output tokens/s.
    """

    def __init__(self, table: dict[Knobs, tuple[float, float]], fraction: float, demand: float):
        self.table, self.fraction, self.demand = table, fraction, demand

    def run(self, controller: Any, observe: Any, target: float, steps: int) -> Any:
        state, throughput, chosen, served = None, target, [], []
        for _ in range(steps):
            row = observe(target_tok_s=target, throughput_tok_s=throughput)
            knobs, state = controller.decide(controller.context.layout.decode(row), state)
            delivered = min(self.demand, self.fraction * self.table[knobs][0])
            throughput += (delivered - throughput) * 0.2
            chosen.append(knobs)
            served.append(throughput)
        return chosen, np.array(served)


def test_feedback_brings_an_overrated_server_to_its_target(
    pals: Any, observe: Any, table: dict[Knobs, tuple[float, float]]
) -> None:
    target = 0.99 * table[Knobs(250.0, 64)][0]
    server = Server(table, fraction=0.85, demand=1e9)
    _, without = server.run(pals(feedback=NO_PID), observe, target, 200)
    _, corrected = server.run(pals(), observe, target, 200)
    assert without[-50:].mean() < 0.9 * target
    assert corrected[-50:].min() >= 0.95 * target


def test_only_the_symmetric_loop_gives_up_a_target_it_has_reached(
    pals: Any, observe: Any, table: dict[Knobs, tuple[float, float]]
) -> None:
    """Over-delivering is not an error to the one-sided loop; the literal one winds down."""
    target = 0.99 * table[Knobs(300.0, 64)][0]
    server = Server(table, fraction=1.25, demand=1e9)
    one_sided, steady = server.run(pals(), observe, target, 200)
    symmetric, _ = server.run(pals("pals_symmetric"), observe, target, 200)
    assert min(table[knobs][0] for knobs in one_sided) >= target
    assert steady[-100:].min() >= target
    assert min(table[knobs][0] for knobs in symmetric) < target


def test_adaptive_batch_keeps_the_highest_cap_of_the_budget(pals: Any, observe: Any) -> None:
    controller = pals("adaptive_batch")
    chosen = [
        first(controller, observe, target_tok_s=target, power_budget_w=budget)
        for target in (100.0, 900.0, 1900.0)
        for budget in (math.inf, 1000.0)
    ]
    assert {knobs.power_cap_w for knobs in chosen[0::2]} == {400.0}
    assert {knobs.power_cap_w for knobs in chosen[1::2]} == {250.0}
    assert chosen[4].max_num_seqs == 64


def test_adaptive_cap_keeps_its_batch_limit(pals: Any, observe: Any) -> None:
    targets = (300.0, 900.0, 1200.0, 1900.0)
    chosen = [first(pals("adaptive_cap"), observe, target_tok_s=t) for t in targets]
    assert {knobs.max_num_seqs for knobs in chosen} == {64}
    caps = [knobs.power_cap_w for knobs in chosen]
    assert caps == sorted(caps)
    assert caps[0] < caps[-1]
    fixed = pals("adaptive_cap", max_num_seqs=16)
    assert first(fixed, observe).max_num_seqs == 16


def test_a_batch_limit_off_the_grid_is_named(pals: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"controller\.max_num_seqs: must be one of"):
        pals("adaptive_cap", max_num_seqs=17)


def test_tpot_aware_lowers_the_batch_limit_to_meet_the_slo(
    pals: Any, observe: Any, table: dict[Knobs, tuple[float, float]]
) -> None:
    slo = {"target_tok_s": 400.0, "tpot_slo_s": 0.022}
    blind, aware = first(pals(), observe, **slo), first(pals(tpot_aware=True), observe, **slo)
    assert blind.max_num_seqs / table[blind][0] > 0.022
    assert aware.max_num_seqs < blind.max_num_seqs
    assert table[aware][0] >= 400.0
    hopeless = first(pals(tpot_aware=True), observe, target_tok_s=1900.0, tpot_slo_s=0.022)
    assert hopeless.power_cap_w == 400.0
    assert hopeless.max_num_seqs < 64


@pytest.mark.parametrize("key", ["threshold", "sustain_s", "change", "settle_s"])
def test_impossible_values_name_their_key(key: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"controller\.{key}"):
        catalog.build("controller", {"base": "pals", key: -1.0})
