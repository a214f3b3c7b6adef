"""No split of a budget exceeds it, and what cannot be met is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.pals.allocator import PowerCurve, Predictive
from envs.cluster.allocators import ByAction, Demands, Proportional, Uniform, fit
from envs.errors import ConfigurationError

ALLOCATORS = ("uniform", "proportional", "by_action", "predictive")


def demands(
    count,
    *,
    alive=None,
    floor=600.0,
    ceiling=1600.0,
    target=0.0,
    capacity=1000.0,
    waiting=0.0,
):
    def each(value):
        return np.broadcast_to(np.asarray(value, dtype=np.float64), count).copy()

    return Demands(
        alive=np.ones(count, dtype=bool) if alive is None else np.asarray(alive),
        floor_w=each(floor),
        ceiling_w=each(ceiling),
        target_tok_s=each(target),
        capacity_tok_s=each(capacity),
        throughput_tok_s=each(0.0),
        waiting=each(waiting),
        power_w=each(0.0),
    )


def curve(floor=600.0, ceiling=1600.0, *throughput):
    return PowerCurve(np.linspace(floor, ceiling, len(throughput)), np.array(throughput))


def allocator(name, known, weights):
    if name == "uniform":
        return Uniform()
    if name == "proportional":
        return Proportional()
    if name == "by_action":
        built = ByAction()
        built.set_weights(weights)
        return built
    predictive = Predictive()
    predictive.set_curves(
        [
            curve(low, high, 0.4 * capacity, 0.7 * capacity, 0.9 * capacity, capacity)
            for low, high, capacity in zip(
                known.floor_w, known.ceiling_w, known.capacity_tok_s, strict=True
            )
        ]
    )
    return predictive


@st.composite
def situations(draw):
    count = draw(st.integers(1, 8))

    def each(low, high):
        return np.array(draw(st.lists(st.floats(low, high), min_size=count, max_size=count)))

    floor = each(0.0, 2000.0)
    known = demands(
        count,
        alive=np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count))),
        floor=floor,
        ceiling=floor + each(1.0, 2000.0),
        target=each(0.0, 5000.0),
        capacity=each(1.0, 5000.0),
        waiting=each(0.0, 1e4),
    )
    return known, draw(st.floats(0.0, 3e4)), each(0.0, 10.0)


@pytest.mark.parametrize("name", ALLOCATORS)
@given(situation=situations())
def test_an_allocation_never_exceeds_a_feasible_budget(name, situation):
    known, budget_w, weights = situation
    split = allocator(name, known, weights).allocate(budget_w, known)
    floor = np.where(known.alive, known.floor_w, 0.0)
    ceiling = np.where(known.alive, known.ceiling_w, 0.0)
    assert (split.budget_w[~known.alive] == 0.0).all()
    assert (split.budget_w >= floor * (1 - 1e-9)).all()
    assert (split.budget_w <= ceiling * (1 + 1e-9)).all()
    if split.feasible:
        assert split.budget_w.sum() <= budget_w * (1 + 1e-9) + 1e-9
        assert split.budget_w.sum() >= min(budget_w, ceiling.sum()) * (1 - 1e-6) - 1e-6
    else:
        assert floor.sum() > budget_w
        np.testing.assert_array_equal(split.budget_w, floor)  # no split violates it by less


@pytest.mark.parametrize("name", ALLOCATORS)
def test_no_node_at_all_gets_nothing(name):
    known = demands(3, alive=[False, False, False], target=500.0)
    split = allocator(name, known, np.ones(3)).allocate(1000.0, known)
    assert split.feasible
    assert split.budget_w.tolist() == [0.0, 0.0, 0.0]


def test_uniform_is_uniform():
    split = Uniform().allocate(3600.0, demands(3))
    np.testing.assert_allclose(split.budget_w, 1200.0)


def test_what_a_node_cannot_take_goes_to_the_others():
    given_w = fit(np.ones(3), np.zeros(3), np.array([100.0, 1000.0, 1000.0]), 900.0)
    np.testing.assert_allclose(given_w, [100.0, 400.0, 400.0])


def test_the_dead_nodes_fraction_goes_to_the_others():
    split = Uniform().allocate(3000.0, demands(3, alive=[True, False, True]))
    np.testing.assert_allclose(split.budget_w, [1500.0, 0.0, 1500.0])


def test_proportional_follows_targets_and_backlog():
    targets = Proportional().allocate(3000.0, demands(2, target=[800.0, 700.0]))
    np.testing.assert_allclose(targets.budget_w, [1600.0, 1400.0])
    backlog = Proportional().allocate(3000.0, demands(2, target=750.0, waiting=[0.0, 5.0]))
    assert backlog.budget_w[1] / backlog.budget_w[0] == pytest.approx(1.05)


def test_an_action_sets_the_fractions():
    by_action = ByAction()
    np.testing.assert_allclose(by_action.allocate(2000.0, demands(2)).budget_w, 1000.0)
    by_action.set_weights(np.array([3.0, 2.0]))
    np.testing.assert_allclose(by_action.allocate(2000.0, demands(2)).budget_w, [1200.0, 800.0])


def test_predictive_gives_each_node_what_its_target_needs():
    known = demands(2, target=[500.0, 900.0])
    predictive = Predictive(margin=0.0)
    predictive.set_curves([curve(600.0, 1600.0, 300.0, 520.0, 900.0, 1000.0)] * 2)
    needed = [600.0 + 1000.0 / 3, 600.0 + 2000.0 / 3]
    exact = predictive.allocate(sum(needed), known)
    np.testing.assert_allclose(exact.budget_w, needed, rtol=1e-6)
    roomy = predictive.allocate(sum(needed) + 300.0, known)
    assert (roomy.budget_w > np.array(needed)).all()


def test_predictive_puts_scarce_power_where_a_watt_brings_most():
    known = demands(2, target=1000.0)
    predictive = Predictive(margin=0.0)
    predictive.set_curves(
        [curve(600.0, 1600.0, 800.0, 850.0, 1000.0), curve(600.0, 1600.0, 200.0, 700.0, 1000.0)]
    )
    split = predictive.allocate(1700.0, known)
    np.testing.assert_allclose(split.budget_w, [600.0, 1100.0], rtol=1e-6)


def test_predictive_climbs_over_a_flat_stretch():
    known = demands(2, target=1000.0)
    predictive = Predictive(margin=0.0)
    predictive.set_curves(
        [curve(600.0, 1600.0, 200.0, 200.0, 1000.0), curve(600.0, 1600.0, 900.0, 950.0, 1000.0)]
    )
    split = predictive.allocate(2200.0, known)
    np.testing.assert_allclose(split.budget_w, [1600.0, 600.0], rtol=1e-6)


def test_predictive_needs_profiles():
    with pytest.raises(ConfigurationError, match="one offline profile per node"):
        Predictive().allocate(3000.0, demands(2))
