"""How long decisions take is measured for every controller; what one tells is in the record."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from experiments.evaluation import decisions
from experiments.evaluation.decisions import DecisionClock, Decisions


class Clock:
    """Stands in for the module ``time``; it goes on when it is told to."""

    now_s = 100.0

    def perf_counter(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(decisions, "time", made)
    return made


class Slow:
    """A policy that takes 5 ms, 10 ms, 15 ms …, and counts."""

    def predict(self, observation: Any, state: Any = None, *_: Any, **__: Any) -> Any:
        count = (state or 0) + 1
        decisions.time.now_s += 0.005 * count  # type: ignore[attr-defined]
        return observation, count


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
    assert (one.p50_s, five.p50_s) == (pytest.approx(0.0125), pytest.approx(0.0025))
    assert one.p99_s == pytest.approx(0.01985)
    assert "controller_report" not in one.summary()


def test_what_a_controller_tells_is_in_the_summary() -> None:
    assert asked(Telling(), 2).summary()["controller_report"] == {"asked": 4.0}


def test_who_was_never_asked_took_no_time() -> None:
    assert DecisionClock(Slow()).finish().summary() == {
        "decision_p50_s": None,
        "decision_p99_s": None,
    }
