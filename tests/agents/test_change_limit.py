"""An agent's knobs move no more often than they may, on each server, and never against a budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agents.change_limit import RESERVE, ChangeLimitedPolicy, Reserve
from agents.controller import Agent
from agents.shield import BudgetShield
from agents.shielded_policy import ShieldedPolicy
from envs.errors import ConfigurationError
from envs.factory import make_simulated
from experiments.evaluation.rollout import run_episode


class Flapping:
    """Goes between two actions, one after the other, on each server."""

    def __init__(self, *actions: list[int]) -> None:
        self._actions = np.array(actions)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: Any = 1
    ) -> tuple[Any, int]:
        step = 0 if state is None else state
        action = self._actions[step % len(self._actions)]
        return (action if np.ndim(observation) == 1 else np.stack([action] * len(observation))), (
            step + 1
        )


def changes(table: Any) -> int:
    columns = [table["requested_power_cap_w"], table["requested_max_num_seqs"]]
    return int((np.abs(np.diff(columns)) > 1e-6).any(axis=0).sum())


def flown(env: Any, policy: Any, seconds: float) -> Any:
    """The table of an episode under a policy."""

    class Flown:
        predict = policy.predict

        def bind(self, context: Any) -> None: ...

        def prepare(self, preparation: Any) -> None: ...

    return run_episode(env, Flown(), seed=1, duration_s=seconds).table


@pytest.mark.parametrize("per_minute", [6.0, 50.0])
def test_a_flapping_policy_moves_the_knobs_as_often_as_it_may(per_minute: float) -> None:
    env = make_simulated()
    flapping = Flapping([5, 5], [5, 4])
    assert changes(flown(env, flapping, 120.0)) == 239
    bound = ChangeLimitedPolicy(flapping, env.context.encoding, env.context, per_minute=per_minute)
    expected = pytest.approx(RESERVE + 2.0 * per_minute, abs=2)
    assert changes(flown(env, bound, 120.0)) == expected


def test_who_moves_seldom_is_left_alone() -> None:
    env = make_simulated()
    calm = Flapping(*[[5, 5]] * 10, *[[3, 5]] * 10)
    bound = ChangeLimitedPolicy(calm, env.context.encoding, env.context, per_minute=15.0)
    free, own = flown(env, calm, 60.0), flown(env, bound, 60.0)
    np.testing.assert_array_equal(free["requested_power_cap_w"], own["requested_power_cap_w"])


def test_each_server_has_a_reserve_of_its_own_and_each_episode_a_full_one() -> None:
    env = make_simulated()
    context = env.context
    rows = np.random.default_rng(1).uniform(0, 1, (3, len(context.layout.high))).astype(np.float32)
    index = context.layout.index("last_power_cap_w")
    rows[1, index] = (
        context.encoding.grid.power_caps_w[2] / context.layout.scales["last_power_cap_w"].unit
    )
    rows[:, context.layout.index("last_max_num_seqs")] = (
        context.encoding.grid.max_num_seqs[5] / context.layout.scales["last_max_num_seqs"].unit
    )
    rows[[0, 2], index] = 1.0
    bound = ChangeLimitedPolicy(Flapping([2, 5]), context.encoding, context, per_minute=1e-6)
    state = None
    for step in range(14):
        action, state = bound.predict(rows, state, np.array([False, False, step == 12]))
        spent = step >= RESERVE
        assert action[0].tolist() == ([5, 5] if spent else [2, 5])
        assert action[1].tolist() == [2, 5]  # it is there already
        assert action[2].tolist() == ([5, 5] if spent and step < 12 else [2, 5])
        alone, _ = bound.predict(rows[1])
        assert alone.tolist() == [2, 5]


def test_a_budget_lowers_a_held_cap() -> None:
    env = make_simulated(objective="budget_steps")
    context = env.context
    row = np.ones((1, len(context.layout.high)), dtype=np.float32)  # the highest knobs
    row[0, context.layout.index("power_budget_w")] = 0.5
    shield = BudgetShield([context])
    bound = ChangeLimitedPolicy(Flapping([4, 5]), context.encoding, context, per_minute=1e-6)
    spent = Reserve(np.zeros(1)), 0
    assert bound.predict(row, spent)[0].tolist() == [[5, 5]]
    allowed = shield(np.array([[5, 5]]), row).tolist()
    assert 0 < allowed[0][0] < 4
    assert ShieldedPolicy(bound, shield).predict(row, spent)[0].tolist() == allowed


@pytest.mark.parametrize(("batch", "left"), [(True, RESERVE - 1.0), (False, RESERVE)])
def test_a_batch_limit_that_is_no_knob_is_no_change(batch: bool, left: float) -> None:
    context = make_simulated().context
    rows = np.ones((1, len(context.layout.high)), dtype=np.float32)  # the highest knobs
    bound = ChangeLimitedPolicy(
        Flapping([5, 4]), context.encoding, context, per_minute=1e-6, batch=batch
    )
    _, (reserve, _) = bound.predict(rows)
    assert reserve.changes == pytest.approx([left], abs=1e-6)


def test_a_fixed_batch_limit_stays_while_changes_are_used_up(server: Any, bundle: Any) -> None:
    agent = Agent(bundle=str(bundle), fixed_max_num_seqs=64, changes_per_min=1e-6)
    agent.bind(server.context)
    rows = np.random.default_rng(1).uniform(0, 1, (40, 28)).astype(np.float32)
    rows[:, server.context.layout.index("last_power_cap_w")] = 1.0
    state = None
    for row in rows:
        own, state = agent.predict(row, state)
        assert server.context.encoding.decode(own, None).max_num_seqs == 64
    with pytest.raises(ConfigurationError, match="changes_per_min"):
        Agent(bundle=str(bundle), changes_per_min=0.0)
