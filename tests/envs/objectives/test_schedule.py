"""Conditions of an episode, kept as the stretches over which they stay the same."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from envs.knobs import KnobLimits
from envs.objectives.objective import Objective
from envs.objectives.schedule import Planner, Schedule
from envs.objectives.signals import RandomSteps, Steps


def server(**changes: Any) -> Any:
    facts = {
        "offered_tok_s": 800.0, "capacity_tok_s": 1000.0, "num_gpus": 2,
        "knob_limits": KnobLimits(100.0, 400.0, 64, 500.0, 1500.0), "system_power": (1.1, 300.0),
    }  # fmt: skip
    return SimpleNamespace(**(facts | changes))


def test_a_stretch_begins_wherever_a_condition_changes() -> None:
    table = np.array([[1.0, 5.0], [1.0, 5.0], [1.0, 6.0], [2.0, 6.0], [2.0, 6.0], [1.0, 5.0]])
    schedule = Schedule.of(table)
    assert schedule.begins.tolist() == [0, 2, 3, 5, 6]
    assert schedule.rows.tolist() == [[1.0, 5.0], [1.0, 6.0], [2.0, 6.0], [1.0, 5.0]]
    again = np.repeat(schedule.rows, np.diff(schedule.begins), axis=0)
    np.testing.assert_array_equal(again, table)
    alone = Schedule.of(table[:1])
    assert (alone.begins.tolist(), alone.rows.tolist()) == ([0, 1], [[1.0, 5.0]])


def test_what_draws_nothing_is_planned_once_until_the_server_is_another() -> None:
    objective = Objective(target=Steps(levels=[0.5, 0.9], every_s=2.0), target_unit="capacity")
    system = server()
    planner = Planner(objective, system, 12, 0.5)
    first = planner.plan(1)
    assert first.rows[:, 0].tolist() == [500.0, 900.0, 500.0]
    assert first.begins.tolist() == [0, 4, 8, 12]
    assert planner.plan(2) is first
    system.capacity_tok_s = 2000.0
    assert planner.plan(2).rows[:, 0].tolist() == [1000.0, 1800.0, 1000.0]
    system.knob_limits = replace(system.knob_limits, power_cap_max_w=300.0)
    assert planner.plan(2) is not first


def test_what_draws_follows_the_seed() -> None:
    objective = Objective(target=RandomSteps(low=0.3, high=0.8, mean_hold_s=3.0))
    planner = Planner(objective, server(), 200, 0.5)
    one, other, again = planner.plan(1), planner.plan(2), planner.plan(1)
    np.testing.assert_array_equal(one.rows, again.rows)
    assert one.rows.tolist() != other.rows.tolist()
    assert one.rows[:, 0] == pytest.approx(np.clip(one.rows[:, 0], 240.0, 640.0))
