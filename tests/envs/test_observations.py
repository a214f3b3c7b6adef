"""The observation vector: scales, bounds and the way back to units."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.knobs import KnobLimits
from envs.observations import Observation, ObservationLayout, Scale

SYSTEM = SimpleNamespace(
    knob_limits=KnobLimits(100.0, 400.0, 64, 210.0, 1410.0),
    num_gpus=4,
    capacity_tok_s=2000.0,
    rated_power_w=1500.0,
    offered_tok_s=1400.0,
    system_power=(1.05, 345.0),
)
LAYOUT = ObservationLayout.for_system(SYSTEM)
NAMES = ObservationLayout.names
UNBOUNDED = {"power_budget_w", "ttft_slo_s", "tpot_slo_s"}


def largest(name: str) -> float:
    """The value in SI units that the upper bound of an entry stands for."""
    return float(getattr(LAYOUT.decode(LAYOUT.high), name))


def raw(**values: float) -> np.ndarray:
    return np.array([values.get(name, 0.0) for name in NAMES])


def test_names_follow_the_observation() -> None:
    assert Observation._fields == NAMES
    assert LAYOUT.space.shape == (len(NAMES),)
    assert LAYOUT.space.dtype == np.float32
    assert [LAYOUT.index(name) for name in NAMES] == list(range(len(NAMES)))


@given(fractions=st.lists(st.floats(0, 1), min_size=len(NAMES), max_size=len(NAMES)))
@settings(deadline=None)
def test_values_within_the_bounds_survive_the_way_there_and_back(fractions: list[float]) -> None:
    tops = np.array([largest(name) if name not in UNBOUNDED else 50.0 for name in NAMES])
    values = np.array(fractions) * tops
    encoded = LAYOUT.encode(values.copy())
    assert encoded in LAYOUT.space
    decoded = np.array(LAYOUT.decode(encoded))
    np.testing.assert_allclose(decoded, values, rtol=2e-5, atol=2e-5 * tops.max() * 1e-3)


@given(data=st.data())
@settings(deadline=None)
def test_whatever_is_observed_stays_within_the_space(data: st.DataObject) -> None:
    numbers = st.one_of(st.floats(0, 1e12), st.just(math.inf))
    values = np.array([data.draw(numbers) for _ in NAMES])
    encoded = LAYOUT.encode(values)
    assert encoded.dtype == np.float32
    assert encoded in LAYOUT.space


@pytest.mark.parametrize("name", sorted(UNBOUNDED))
def test_no_budget_and_no_slo_decode_as_infinite(name: str) -> None:
    encoded = LAYOUT.encode(raw(**{name: math.inf}))
    assert encoded in LAYOUT.space
    assert getattr(LAYOUT.decode(encoded), name) == math.inf
    assert getattr(LAYOUT.decode(LAYOUT.encode(raw(**{name: 1.0}))), name) == pytest.approx(1.0)


def test_bounded_entries_saturate_instead_of_becoming_infinite() -> None:
    decoded = LAYOUT.decode(LAYOUT.encode(raw(waiting=1e9, throughput_tok_s=1e9)))
    assert math.isfinite(decoded.waiting)
    assert decoded.throughput_tok_s == pytest.approx(4 * SYSTEM.capacity_tok_s)


def test_scales_follow_from_the_server() -> None:
    encoded = LAYOUT.encode(
        raw(throughput_tok_s=2000, power_w=1600, power_cap_w=400, running=64, sm_clock_mhz=1410)
    )
    for name in ("throughput_tok_s", "power_w", "power_cap_w", "running", "sm_clock_mhz"):
        assert encoded[LAYOUT.index(name)] == pytest.approx(1.0)
    budget = LAYOUT.encode(raw(power_budget_w=1.05 * 1600 + 345))
    assert budget[LAYOUT.index("power_budget_w")] == pytest.approx(1.0)


def test_log_scales_resolve_small_queues_and_reach_one_at_their_top() -> None:
    column = LAYOUT.index("waiting")
    levels = [LAYOUT.encode(raw(waiting=w))[column] for w in (0, 1, 10, 100, 1000)]
    assert levels[0] == 0.0
    assert levels[-1] == pytest.approx(1.0)
    assert np.all(np.diff(levels) > 0.02)


def test_a_batch_equals_its_rows_one_by_one() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 300, (5, len(NAMES)))
    encoded = LAYOUT.encode(values)
    np.testing.assert_array_equal(encoded, [LAYOUT.encode(row) for row in values])
    batch = LAYOUT.decode(encoded)
    for index, row in enumerate(encoded):
        np.testing.assert_array_equal([field[index] for field in batch], LAYOUT.decode(row))


def test_encoding_leaves_its_input_alone() -> None:
    values = raw(waiting=5.0)
    LAYOUT.encode(values)
    assert values[LAYOUT.index("waiting")] == 5.0


def test_every_entry_needs_a_scale() -> None:
    with pytest.raises(KeyError):
        ObservationLayout({"throughput_tok_s": Scale(1.0)})
