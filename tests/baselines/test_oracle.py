"""The oracle against brute force over made-up outcomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from baselines.base import Outcome
from envs import catalog
from envs.context import ControlContext
from envs.errors import ConfigurationError
from envs.knobs import Knobs

MakeContext = Callable[..., ControlContext]


def outcomes(context: ControlContext, seed: int, low: float) -> dict[Knobs, Outcome]:
    rng = np.random.default_rng(seed)
    return {
        knobs: Outcome(rng.uniform(1, 2), *rng.uniform(low, low + 0.1, 3).tolist())
        for knobs in context.grid.choices
    }


@pytest.mark.parametrize("seed", range(5))
def test_it_takes_the_most_efficient_setting_within_all_limits(
    make_context: MakeContext, prepared: Any, observe: Any, knobs_of: Any, seed: int
) -> None:
    context = make_context()
    known = outcomes(context, seed, low=0.0)
    oracle = prepared("oracle", context, known.__getitem__)
    within = {knobs: o for knobs, o in known.items() if max(o[1:]) <= 0.05}
    assert within
    best = max(within, key=lambda knobs: within[knobs].tokens_per_joule)
    state = None
    for _ in range(3):
        action, state = oracle.predict(observe(power_budget_w=800.0), state)
        assert knobs_of(context, action) == best


def test_when_nothing_is_within_the_limits_it_violates_least(
    make_context: MakeContext, prepared: Any
) -> None:
    context = make_context()
    known = outcomes(context, 0, low=0.2)
    oracle = prepared("oracle", context, known.__getitem__)
    assert oracle.choice == min(known, key=lambda knobs: sum(known[knobs][1:]))


@pytest.mark.parametrize("limit", ["qos_limit", "slo_limit", "budget_limit"])
def test_every_limit_counts(make_context: MakeContext, prepared: Any, limit: str) -> None:
    fields = {"qos_limit": 1, "slo_limit": 2, "budget_limit": 3}
    thrifty, safe = Knobs(150.0, 64), Knobs(400.0, 64)

    def evaluate(knobs: Knobs) -> Outcome:
        values = [2.0 if knobs == thrifty else 1.5 if knobs == safe else 1.0, 0.0, 0.0, 0.0]
        values[fields[limit]] = 0.1 if knobs == thrifty else 0.0
        return Outcome(*values)

    context = make_context()
    assert prepared("oracle", context, evaluate).choice == safe
    assert prepared({"base": "oracle", limit: 0.2}, context, evaluate).choice == thrifty


def test_it_searches_the_clock_axis_too(make_context: MakeContext, prepared: Any) -> None:
    context = make_context(sm_clock=True)
    tried = []

    def evaluate(knobs: Knobs) -> Outcome:
        tried.append(knobs)
        return Outcome(1.0 + (knobs.sm_clock_mhz == 930.0), 0.0, 0.0, 0.0)

    assert prepared("oracle", context, evaluate).choice.sm_clock_mhz == 930.0
    assert len(set(tried)) == 216


def test_a_limit_that_is_no_fraction_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"controller\.qos_limit"):
        catalog.build("controller", {"base": "oracle", "qos_limit": 5.0})
