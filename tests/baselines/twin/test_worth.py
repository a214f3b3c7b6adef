"""What a token is worth to a planner, and when a request is late."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.twin.cost import COLUMNS, OUTPUT, Cost, Outlook, Yardstick
from baselines.twin.worth import OwnEnergy

YARDSTICK = Yardstick(np.array([2.0, 4.0]), np.array([100.0, 100.0]), np.array([50.0, 50.0]))


def test_a_token_is_worth_what_one_has_cost() -> None:
    own = OwnEnergy(2, prior_s=10.0)
    np.testing.assert_allclose(own.joule_per_token(YARDSTICK), [2.0, 4.0])  # Baseline's at first
    own.note(np.array([1000.0, 0.0]), np.array([1500.0, 0.0]))
    np.testing.assert_allclose(own.joule_per_token(YARDSTICK), [2000.0 / 2000.0, 4.0])
    for _ in range(200):
        own.note(np.array([1000.0, 300.0]), np.array([1500.0, 100.0]))
    np.testing.assert_allclose(own.joule_per_token(YARDSTICK), [2 / 3, 3.0], rtol=0.02)
    own.begin(0)
    assert own.joule_per_token(YARDSTICK)[0] == pytest.approx(2.0)


def test_without_patience_only_an_slo_makes_a_request_late() -> None:
    slos_s = np.array([1.0, 5.0, np.inf])
    np.testing.assert_array_equal(Cost(patience_s=2.0).ttft_limit_s(slos_s), [1.0, 2.0, 2.0])
    np.testing.assert_array_equal(Cost(patience_s=None).ttft_limit_s(slos_s), slos_s)


def test_a_higher_price_leaves_less_of_the_tolerance() -> None:
    """3 % below the goal is within the tolerance of 5 %, until the outer loop leaves 2 % of it."""
    observed = np.zeros((1, 1, 1, 4, len(COLUMNS)))
    observed[..., OUTPUT] = 97.0
    outlook = Outlook(
        goal_tok_s=np.full((1, 1, 4), 100.0), past_tokens=np.zeros((1, 0)),
        seen_s=np.ones((1, 4)), interval_s=1.0, knobs_now=np.zeros((1, 3)), token_j=np.zeros(1),
    )  # fmt: skip
    yardstick = Yardstick(np.ones(1), np.ones(1), np.ones(1))
    cost = Cost(strictness=0.005, severity=0.0, switch_price=0.0)

    def priced(factor: float) -> float:
        knobs = np.zeros((1, 1, 4, 3))
        found = cost.of(observed, knobs, outlook, yardstick, 0.05, np.array([factor]), 0.0)
        return float(found[0, 0])

    assert priced(1.0) == 0.0
    assert priced(6.0) == pytest.approx(4 * 6.0)
