"""Reward terms: signs, scales, and one server against many."""

from __future__ import annotations

import math

import numpy as np
import pytest

from envs import catalog
from envs.errors import ConfigurationError
from envs.knobs import KnobLimits, Knobs
from envs.objectives.conditions import Conditions
from envs.rewards import (
    BudgetOvershoot,
    Efficiency,
    LatencyShortfall,
    QoSShortfall,
    Reward,
    Step,
    SwitchingCost,
)
from envs.telemetry import Telemetry

CAPACITY, RATED_W = 2000.0, 1500.0
LIMITS = KnobLimits(100.0, 400.0, 64, 210.0, 1410.0)


def step(
    telemetry: Telemetry | None = None,
    conditions: Conditions | None = None,
    knobs: Knobs | None = None,
    previous: Knobs | None = None,
    violation: object = False,
    shortfall: object = 0.0,
    power_w: object = 0.0,
) -> Step:
    return Step(
        telemetry=telemetry or Telemetry(duration_s=0.5),
        conditions=conditions or Conditions(),
        knobs=knobs or Knobs(400.0, 64),
        previous_knobs=previous or Knobs(400.0, 64),
        throughput_tok_s=0.0,
        violation=violation,
        shortfall=shortfall,
        power_in_scope_w=power_w,
        capacity_tok_s=CAPACITY,
        rated_power_w=RATED_W,
        limits=LIMITS,
    )


def served(tokens: float, energy_j: float) -> Step:
    return step(Telemetry(duration_s=0.5, output_tokens=tokens, energy_gpu_j=energy_j))


def test_efficiency_is_zero_at_the_reference_point() -> None:
    assert Efficiency()(served(CAPACITY * 0.5, RATED_W * 0.5)) == pytest.approx(0.0)


def test_efficiency_is_the_energy_saved_as_a_fraction_of_the_rated() -> None:
    term = Efficiency()
    assert term(served(CAPACITY * 0.5, 0.0)) == pytest.approx(1.0)
    assert term(served(0.0, RATED_W * 0.5)) == pytest.approx(-1.0)
    assert term(served(500.0, 600.0)) > term(served(500.0, 700.0)) > term(served(400.0, 700.0))


def test_qos_shortfall_counts_the_violation_and_its_depth() -> None:
    term = QoSShortfall(shortfall_weight=2.0)
    assert term(step(violation=False, shortfall=0.5)) == 0
    assert term(step(violation=True, shortfall=0.1)) == pytest.approx(-1.2)


def test_budget_overshoot_is_relative_and_free_below_the_budget() -> None:
    term = BudgetOvershoot()
    budget = Conditions(power_budget_w=1000.0)
    assert term(step(conditions=budget, power_w=999.0)) == 0
    assert term(step(conditions=budget, power_w=1100.0)) == pytest.approx(-0.1)
    assert term(step(power_w=1e6)) == 0


def test_latency_shortfall_counts_each_slo_up_to_its_limit() -> None:
    term = LatencyShortfall(limit=2.0)
    slos = Conditions(ttft_slo_s=1.0, tpot_slo_s=0.1)
    late = Telemetry(ttft_p99_s=1.5, tpot_p99_s=0.12)
    assert term(step(late, slos)) == pytest.approx(-0.7)
    assert term(step(late)) == 0
    assert term(step(Telemetry(ttft_p99_s=99.0, tpot_p99_s=99.0), slos)) == pytest.approx(-4.0)


def test_switching_cost_is_one_for_a_knobs_full_range() -> None:
    term = SwitchingCost()
    assert term(step()) == 0
    assert term(step(knobs=Knobs(100.0, 64))) == pytest.approx(-1.0)
    assert term(step(knobs=Knobs(400.0, 1))) == pytest.approx(-1.0)
    assert term(step(knobs=Knobs(400.0, 32))) == pytest.approx(-1 / 6)


def many(fields: list[Step]) -> Step:
    """Stacks steps of single servers into the step of a vector of them."""

    def stack(values: list[object]) -> object:
        first = values[0]
        if isinstance(first, Telemetry | Conditions | Knobs):
            names = first._fields
            columns = {n: stack([getattr(v, n) for v in values]) for n in names}
            return type(first)(**columns)
        if isinstance(first, int | float):
            return np.array(values, dtype=np.float64)
        return first

    shared = {"capacity_tok_s", "rated_power_w", "limits"}
    return Step(
        *(
            getattr(fields[0], n) if n in shared else stack([getattr(f, n) for f in fields])
            for n in Step._fields
        )
    )


@pytest.mark.parametrize("name", catalog.names("reward"))
def test_many_servers_at_once_equal_one_by_one(name: str) -> None:
    reward = catalog.build("reward", name)
    rng = np.random.default_rng(1)
    steps = [
        step(
            Telemetry(
                duration_s=0.5,
                output_tokens=rng.uniform(0, 1000),
                energy_gpu_j=rng.uniform(0, 800),
                ttft_p99_s=rng.uniform(0, 3),
                tpot_p99_s=rng.uniform(0, 0.3),
            ),
            Conditions(1000.0, 900.0, 1.0, math.inf),
            Knobs(rng.uniform(100, 400), float(rng.integers(1, 65))),
            violation=float(rng.integers(0, 2)),
            shortfall=rng.uniform(),
            power_w=rng.uniform(500, 1500),
        )
        for _ in range(5)
    ]
    total, parts = reward(many(steps))
    for index, single in enumerate(steps):
        alone, alone_parts = reward(single)
        assert total[index] == pytest.approx(alone)
        for term, value in alone_parts.items():
            assert parts[term][index] == pytest.approx(value)


def test_the_reward_is_the_weighted_sum_of_its_named_terms() -> None:
    reward = Reward(terms={"a": QoSShortfall(weight=3.0), "b": SwitchingCost(weight=0.5)})
    total, parts = reward(step(violation=True, knobs=Knobs(100.0, 64)))
    assert parts == {"a": pytest.approx(-3.0), "b": pytest.approx(-0.5)}
    assert total == pytest.approx(-3.5)


def test_a_reward_file_can_reweigh_its_terms() -> None:
    reward = catalog.build("reward", {"base": "default", "terms": {"qos": {"weight": 7.0}}})
    assert reward.terms["qos"].weight == 7.0
    assert set(reward.terms) == {"efficiency", "qos", "budget", "latency", "switching"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"terms": {}}, "reward.terms: must hold at least one term"),
        ({"terms": {"x": 3}}, "reward.terms.x: is not a reward term"),
        (
            {"terms": {"x": Efficiency()}, "qos_definition": "ideal"},
            "reward.qos_definition.*'ideal'",
        ),
    ],
)
def test_impossible_rewards_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Reward(**arguments)  # type: ignore[arg-type]
