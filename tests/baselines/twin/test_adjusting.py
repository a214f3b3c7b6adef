"""A violation limit that is changed while the planner controls."""

from __future__ import annotations

from types import SimpleNamespace

from baselines.twin.limit import LimitConfig, ViolationPrice
from baselines.twin.mpc import Mpc
from experiments.service.reloading import adjustable, changes


def test_a_new_violation_limit_moves_the_price_from_then_on() -> None:
    prices = [ViolationPrice(LimitConfig(), 0.02) for _ in range(2)]
    for price in prices:
        for _ in range(40):
            price.note(False, 0.5)
    state = SimpleNamespace(estimates=[SimpleNamespace(price=prices[0])])
    controller = Mpc(violation_limit=0.02)
    changed = controller.adjust(Mpc(violation_limit=0.001), state)
    assert changed == {"violation_limit": 0.001}
    assert controller.violation_limit == 0.001
    for price in prices:
        for _ in range(20):
            price.note(False, 0.5)
    strict, loose = prices
    assert strict.factor > loose.factor
    assert controller.adjust(Mpc(violation_limit=0.001), state) == {}
    settings = {"controller.violation_limit": 0.001, "controller.horizon_s": 10.0}
    asked = {"controller.violation_limit": 0.002, "controller.horizon_s": 20.0}
    found = changes(settings, asked, adjustable(controller))
    assert found == ([], ["controller.violation_limit"], ["controller.horizon_s"])
