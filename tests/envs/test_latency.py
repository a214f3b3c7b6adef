"""Latency distributions in buckets against exact percentiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.latency import (
    LATENCY_BUCKETS,
    LATENCY_MIN_S,
    LATENCY_RATIO,
    LatencyRecord,
    bucket_of,
    percentile,
)

SECONDS = st.floats(2 * LATENCY_MIN_S, 1e4)


def counted(values: list[float]) -> np.ndarray:
    counts = np.zeros(LATENCY_BUCKETS, dtype=np.int64)
    for value in values:
        counts[bucket_of(value)] += 1
    return counts


@given(values=st.lists(SECONDS, min_size=1, max_size=200), q=st.floats(0, 100))
@settings(deadline=None)
def test_percentiles_are_within_one_percent(values: list[float], q: float) -> None:
    exact = np.percentile(values, q, method="inverted_cdf")
    assert percentile(counted(values), q) == pytest.approx(exact, rel=0.0101)


@given(seconds=st.floats(0, 1e9))
def test_every_latency_has_a_bucket(seconds: float) -> None:
    index = bucket_of(seconds)
    assert 0 <= index < LATENCY_BUCKETS
    if 0 < index < LATENCY_BUCKETS - 1:
        low = LATENCY_MIN_S * LATENCY_RATIO ** (index - 1)
        assert low * (1 - 1e-9) <= seconds <= low * LATENCY_RATIO * (1 + 1e-9)


@given(one=SECONDS, other=SECONDS)
def test_longer_latencies_never_fall_into_lower_buckets(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert bucket_of(low) <= bucket_of(high)


def test_nothing_counted_has_no_percentile() -> None:
    assert percentile(np.zeros(LATENCY_BUCKETS, dtype=np.int64), 99.0) is None


def test_immeasurably_short_latencies_stay_positive() -> None:
    assert percentile(counted([0.0, 1e-9]), 50.0) == LATENCY_MIN_S


def test_slo_violations_include_unfinished_requests_already_late() -> None:
    assert LatencyRecord(finished=8, slo_missed=1, slo_overdue=2).slo_violation_rate == 0.3
    assert LatencyRecord().slo_violation_rate is None


def test_records_do_not_fraction_their_counts() -> None:
    one, other = LatencyRecord(), LatencyRecord()
    one.ttft[3] += 1
    assert other.ttft.sum() == 0
