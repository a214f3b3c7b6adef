"""The shield: never above the budget, and nothing else changed."""

from __future__ import annotations

import numpy as np
import pytest

from agents.shield import BudgetShield
from envs import catalog
from envs.factory import make_simulated, make_simulated_vector
from envs.knobs import Knobs

BUDGET = {
    "base": "efficiency",
    "power_budget": {"_target_": "envs.objectives.signals.RandomSteps", "low": 0.3, "high": 1.0},
}


@pytest.mark.parametrize("action", catalog.names("action"))
@pytest.mark.parametrize("scope", ["gpu", "system"])
def test_caps_keep_within_the_budget_and_other_knobs_stay(action, scope):
    env = make_simulated(action=action, objective={**BUDGET, "power_scope": scope}, duration_s=20.0)
    context = env.context
    shield = BudgetShield([context])
    rng = np.random.default_rng(0)
    level = context.layout.index("power_budget_w")
    for _ in range(40):
        seen = rng.uniform(0.0, 1.0, env.observation_space.shape).astype(np.float32)
        seen[level] = rng.uniform(0.1, 1.1)
        decoded = context.layout.decode(seen)
        current = Knobs(decoded.last_power_cap_w, decoded.last_max_num_seqs, None)
        asked = env.action_space.sample()
        let = shield(np.asarray(asked)[None], seen[None])[0]
        before = env.encoding.decode(asked, current)
        after = env.encoding.decode(let, current)
        limit = context.cap_limit_w(decoded.power_budget_w)
        lowest, *more = context.grid.power_caps_w
        highest = max([lowest, *(cap for cap in more if cap <= limit)])
        if action != "delta":  # which comes down level by level
            assert after.power_cap_w <= highest * 1.001
        assert after.power_cap_w <= before.power_cap_w
        assert after.max_num_seqs == before.max_num_seqs
        if before.power_cap_w <= highest:
            np.testing.assert_array_equal(let, asked)


def test_without_a_budget_nothing_is_changed(server):
    shield = BudgetShield([server.context])
    seen = np.tile(server.reset(seed=0)[0], (3, 1))
    asked = np.array([[5, 5], [3, 0], [0, 5]])
    assert shield(asked, seen) is asked


def test_each_server_of_a_vector_has_its_own_limit():
    """Other GPUs, sizes and scopes: row by row the result is that of the server alone."""
    vector = make_simulated_vector(
        3,
        gpu=["a100_sxm4_80gb", "h100_sxm", "h100_sxm"],
        model="olmoe_1b_7b",
        server=[{"base": "simulated", "tensor_parallel": n} for n in (1, 2, 4)],
        objective=[{**BUDGET, "power_scope": s} for s in ("gpu", "system", "gpu")],
    )
    shield = BudgetShield(vector.contexts)
    rng = np.random.default_rng(1)
    changed = 0
    for _ in range(20):
        seen = rng.uniform(0.2, 1.0, vector.observation_space.shape).astype(np.float32)
        asked = np.stack([vector.single_action_space.sample() for _ in range(3)])
        together = shield(asked, seen)
        for row, context in enumerate(vector.contexts):
            alone = BudgetShield([context])(asked[row : row + 1], seen[row : row + 1])[0]
            np.testing.assert_array_equal(together[row], alone)
        changed += int((together != asked).any())
    assert changed > 0


def test_the_short_way_of_grids_is_that_of_any_encoding():
    vector = make_simulated_vector(
        4,
        gpu=["a100_sxm4_80gb", "h100_sxm"],
        model="olmoe_1b_7b",
        server=[{"base": "simulated", "tensor_parallel": n} for n in (1, 2)],
        objective=[{**BUDGET, "power_scope": s} for s in ("gpu", "system", "gpu")],
    )
    short, long = BudgetShield(vector.contexts), BudgetShield(vector.contexts)
    long._levels_w = None
    rng = np.random.default_rng(2)
    changed = 0
    for _ in range(50):
        seen = rng.uniform(0.0, 1.2, vector.observation_space.shape).astype(np.float32)
        asked = np.stack([vector.single_action_space.sample() for _ in range(4)])
        kept = asked.copy()
        np.testing.assert_array_equal(short(asked, seen), long(asked, seen))
        np.testing.assert_array_equal(asked, kept)
        changed += int((short(asked, seen) != asked).any())
    assert changed > 10
