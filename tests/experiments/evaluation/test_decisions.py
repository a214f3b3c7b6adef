"""How long decisions take is measured for every controller; what one tells is in the record."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from experiments.evaluation.decisions import DecisionClock, Decisions


class Slow:
    """A policy that takes 5 ms, and counts."""

    def predict(self, observation: Any, state: Any = None, *_: Any, **__: Any) -> Any:
        time.sleep(0.005)
        return observation, (state or 0) + 1


class Telling(Slow):
    def report(self, state: Any) -> dict[str, float]:
        return {"asked": float(state)}


def asked(policy: Any, servers: int) -> Decisions:
    clock = DecisionClock(policy)
    for _ in range(4):
        clock.decide(np.zeros((servers, 3)), np.zeros(servers, dtype=bool))
    return clock.finish()


def test_times_are_per_server() -> None:
    one, five = asked(Slow(), 1), asked(Slow(), 5)
    assert one.p50_s is not None
    assert five.p50_s is not None
    assert 0.005 <= one.p50_s <= one.p99_s < 0.5  # type: ignore[operator]
    assert five.p50_s == pytest.approx(one.p50_s / 5, rel=0.8)
    assert "controller_report" not in one.summary()


def test_what_a_controller_tells_is_in_the_summary() -> None:
    assert asked(Telling(), 2).summary()["controller_report"] == {"asked": 4.0}


def test_who_was_never_asked_took_no_time() -> None:
    assert DecisionClock(Slow()).finish().summary() == {
        "decision_p50_s": None,
        "decision_p99_s": None,
    }
