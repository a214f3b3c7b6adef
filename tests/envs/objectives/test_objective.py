"""What an objective demands in every interval, in the units that its keys name."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from envs.errors import ConfigurationError
from envs.knobs import KnobLimits
from envs.objectives.conditions import Conditions
from envs.objectives.objective import (
    Objective,
    cap_within_budget,
    highest_power_w,
    power_in_scope,
)
from envs.objectives.signals import Steps

SERVER: Any = SimpleNamespace(
    offered_tok_s=800.0,
    capacity_tok_s=1000.0,
    num_gpus=2,
    knob_limits=KnobLimits(100.0, 400.0, 64, 500.0, 1500.0),
    system_power=(1.1, 300.0),
)
BUSIER: Any = SimpleNamespace(**{**vars(SERVER), "offered_tok_s": 1500.0})


def demanded(server: Any = SERVER, **keys: Any) -> list[Conditions]:
    """Returns the conditions of six intervals of half a second."""
    table = Objective(**keys).schedule(server, np.random.default_rng(0), 6, 0.5)
    return [Conditions(*row) for row in table.tolist()]


def test_each_demand_has_its_own_place() -> None:
    rows = demanded(
        target=300.0, target_unit="tok_s", power_budget=500.0, power_budget_unit="w",
        ttft_slo_s=0.7, tpot_slo_s=0.03, carbon_g_kwh=120.0, price_per_kwh=-0.02,
    )  # fmt: skip
    assert rows == [Conditions(300.0, 500.0, 0.7, 0.03, 120.0, -0.02)] * 6


def test_what_is_not_demanded_is_without_a_limit() -> None:
    assert demanded() == [Conditions()] * 6
    assert demanded()[0].tpot_slo_s == math.inf


def test_a_target_is_a_fraction_of_what_arrives_or_of_what_can_be_served() -> None:
    assert demanded(target=0.5, target_unit="offered")[0].target_tok_s == 400.0
    assert demanded(BUSIER, target=0.5, target_unit="offered")[0].target_tok_s == 500.0
    assert demanded(target=0.5, target_unit="capacity")[0].target_tok_s == 500.0


def test_a_budget_is_a_fraction_of_the_highest_power_of_its_scope() -> None:
    gpus = demanded(power_budget=0.5, power_scope="gpu")
    assert gpus[0].power_budget_w == 400.0
    node = demanded(power_budget=0.5, power_scope="system")
    assert node[0].power_budget_w == pytest.approx(0.5 * (1.1 * 800.0 + 300.0))
    assert highest_power_w(SERVER, "system") == pytest.approx(1180.0)
    assert highest_power_w(SERVER, "gpu") == 800.0


def test_signals_change_at_the_time_of_their_interval() -> None:
    signal = Steps(levels=[0.5, 0.9], every_s=2.0)
    rows = demanded(target=signal, target_unit="capacity")
    assert [row.target_tok_s for row in rows] == [500.0] * 4 + [900.0] * 2


@pytest.mark.parametrize("scope", ["gpu", "system"])
def test_a_cap_within_a_budget_uses_all_of_it(scope: str) -> None:
    cap = cap_within_budget(900.0, scope, 2, (1.1, 300.0))
    assert power_in_scope(2 * cap, scope, (1.1, 300.0)) == pytest.approx(900.0)
    assert cap == pytest.approx(450.0 if scope == "gpu" else 600.0 / 1.1 / 2)


@pytest.mark.parametrize("key", ["target", "power_budget", "carbon_g_kwh"])
def test_demands_below_zero_are_refused_but_for_prices(key: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"objective\.{key}: .*>= 0"):
        Objective(**{key: -1.0})
    assert demanded(price_per_kwh=-1.0)[0].price_per_kwh == -1.0
