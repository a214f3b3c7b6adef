"""What a server violates that believes it does not: a margin on top of Baseline helps, no price."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.twin.cost import COLUMNS, OUTPUT, Cost, Outlook, Yardstick
from baselines.twin.limit import LimitConfig

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
