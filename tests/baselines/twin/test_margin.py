"""What a server violates that believes it does not: a margin on top of Baseline helps, no price."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.twin.cost import COLUMNS, OUTPUT, Cost, Outlook, Yardstick
from baselines.twin.limit import LimitConfig
from baselines.twin.plans import PlanSpace
from envs.factory import make_env
from envs.scenario import Scenario

INTERVALS, WINDOW = 4, 20


def cost_of(tokens: float, factor: float) -> float:
    """Returns the cost of a plan whose intervals bring some tokens where Baseline brings 100."""
    observed = np.zeros((1, 1, 1, INTERVALS, len(COLUMNS)))
    observed[..., OUTPUT] = tokens
    knobs = np.full((1, 1, INTERVALS, 3), np.inf)
    outlook = Outlook(
        goal_tok_s=np.full((1, 1, INTERVALS), 200.0),
        past_tokens=np.full((1, WINDOW - 1), 100.0),
        seen_s=np.full((1, INTERVALS), 10.0),
        interval_s=0.5,
        knobs_now=np.full((1, 3), np.inf),
        token_j=np.zeros(1),
    )
    yardstick = Yardstick(np.ones(1), np.full(1, 1000.0), np.full(1, 100.0))
    cost = Cost().of(observed, knobs, outlook, yardstick, 0.05, np.full(1, factor), 0.0)
    return float(cost[0, 0])


@pytest.mark.parametrize(("factor", "violates"), [(1.0, False), (9.0, False), (20.0, True)])
def test_beyond_the_tolerance_more_than_baselines_throughput_is_asked_for(
    factor: float, violates: bool
) -> None:
    assert (cost_of(100.0, factor) > 0.0) == violates


def test_the_loop_reaches_as_far() -> None:
    assert LimitConfig().highest * Cost().strictness >= 0.5


def test_the_dearer_violations_are_the_fewer_batch_limits_are_left() -> None:
    grid = make_env(Scenario()).context.grid
    space = PlanSpace(grid, batches=4, intervals=10, phases=2)
    highest = np.array(grid.max_num_seqs, dtype=float)[::-1]
    lowest = space.lowest(np.array([0.5, 1.0, 1.2, 1.45, 1.7, 100.0]))
    np.testing.assert_array_equal(lowest[:, 1], highest[[3, 3, 2, 1, 0, 0]])
    plans = np.full((1, 1, 2), len(space.choices) - 1)
    limit_w = np.full((1, 10), np.inf)
    assert (space.knobs(plans, limit_w)[..., 1] == highest[3]).all()
    asked = np.array([[0.0, highest[1], 0.0]])
    assert (space.knobs(plans, limit_w, asked)[..., 1] == highest[1]).all()


def test_at_last_only_baselines_knobs_are_left_but_never_above_the_budget() -> None:
    action = {"base": "grid", "sm_clock": True, "sm_clock_levels": 4}
    grid = make_env(Scenario(action=action)).context.grid
    space = PlanSpace(grid, batches=2, intervals=10, phases=2)
    caps_w, clocks_mhz = grid.power_caps_w[::-1], (np.inf, *grid.sm_clocks_mhz[:-1][::-1])
    lowest = space.lowest(np.array([1.0, 16.0, 32.0, 64.0, 200.0]))
    np.testing.assert_array_equal(
        lowest[:, 0], [caps_w[-1], caps_w[-1], caps_w[len(caps_w) // 2 - 1], caps_w[0], caps_w[0]]
    )
    np.testing.assert_array_equal(lowest[:, 2], [clocks_mhz[i] for i in (3, 3, 1, 0, 0)])
    budget_w = np.full((1, 10), caps_w[2])
    plans = np.zeros((1, 1, 2), dtype=np.int64)
    knobs = space.knobs(plans, budget_w, lowest[-1:])
    assert (knobs == (caps_w[2], grid.max_num_seqs[-1], np.inf)).all()


def test_clocks_are_limited_under_the_highest_cap_only() -> None:
    action = {"base": "grid", "sm_clock": True, "sm_clock_levels": 4}
    grid = make_env(Scenario(action=action)).context.grid
    space = PlanSpace(grid, batches=2, intervals=10, phases=2)
    limited = space.choices[np.isfinite(space.choices[:, 2])]
    assert len(limited) == 2 * 3
    assert (limited[:, 0] == grid.power_caps_w[-1]).all()
    free = space.choices[: space.caps]
    np.testing.assert_array_equal(free[:, 0], grid.power_caps_w)
    assert np.isinf(free[:, 2]).all()
