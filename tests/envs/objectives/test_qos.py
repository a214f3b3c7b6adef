"""The sliding window against a brute-force mean, and the readings of a violation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.errors import ConfigurationError
from envs.objectives.qos import (
    QoSConfig,
    WindowedRate,
    shortfall,
    violation_backlog,
    violation_plain,
    violation_reference,
    work_waits,
)

AMOUNTS = st.lists(st.floats(0, 1e6), min_size=1, max_size=60)


@given(amounts=AMOUNTS, length=st.integers(1, 12), interval_s=st.sampled_from([0.25, 0.5, 1.0]))
@settings(deadline=None)
def test_rate_is_the_mean_over_the_window_or_what_was_seen(
    amounts: list[float], length: int, interval_s: float
) -> None:
    rate = WindowedRate(length * interval_s, interval_s)
    for index, amount in enumerate(amounts):
        seen = amounts[max(0, index + 1 - length) : index + 1]
        expected = sum(seen) / (len(seen) * interval_s)
        assert rate.push(amount)[0] == pytest.approx(expected, rel=1e-9, abs=1e-6)


@given(
    amounts=st.lists(st.tuples(*[st.floats(0, 1e3)] * 3), min_size=2, max_size=40),
    resets=st.lists(st.tuples(st.integers(1, 39), st.integers(0, 2)), max_size=4),
)
@settings(deadline=None)
def test_servers_are_apart_and_reset_one_by_one(
    amounts: list[tuple[float, float, float]], resets: list[tuple[int, int]]
) -> None:
    together = WindowedRate(2.5, 0.5, 3)
    alone = [WindowedRate(2.5, 0.5) for _ in range(3)]
    for index, row in enumerate(amounts):
        for when, env in resets:
            if when == index:
                together.reset(np.arange(3) == env)
                alone[env] = WindowedRate(2.5, 0.5)
        expected = [rate.push(amount)[0] for rate, amount in zip(alone, row, strict=True)]
        np.testing.assert_allclose(together.push(np.array(row)), expected, atol=1e-6)


def test_reset_without_a_mask_forgets_everything() -> None:
    rate = WindowedRate(1.0, 0.5, 2)
    rate.push(np.array([5.0, 7.0]))
    rate.reset()
    np.testing.assert_allclose(rate.push(np.array([1.0, 2.0])), [2.0, 4.0])


def test_rounding_errors_do_not_pile_up() -> None:
    rate = WindowedRate(1.0, 0.5)
    rate.push(1e15)
    for _ in range(4):
        last = rate.push(0.1)
    assert last[0] == pytest.approx(0.2, rel=1e-12)


def test_shortfall_is_relative_and_never_negative() -> None:
    got = shortfall(np.array([50.0, 150.0, 10.0]), np.array([100.0, 100.0, 0.0]))
    np.testing.assert_allclose(got, [0.5, 0.0, 0.0])


@pytest.mark.parametrize(
    ("throughput", "target", "waiting", "reference", "plain", "backlog", "relative"),
    [
        (94.0, 100.0, 3, 200.0, True, True, True),
        (94.0, 100.0, 0, 200.0, True, False, True),
        (94.0, 100.0, 3, 96.0, True, True, False),
        (96.0, 100.0, 3, 200.0, False, False, False),
        (50.0, 0.0, 3, 200.0, False, False, False),
    ],
)
def test_definitions_differ_as_defined(
    throughput: float,
    target: float,
    waiting: int,
    reference: float,
    plain: bool,
    backlog: bool,
    relative: bool,
) -> None:
    assert violation_plain(throughput, target, 0.05) == plain
    assert violation_backlog(throughput, target, work_waits(waiting, 2.0, 0.5), 0.05) == backlog
    assert not violation_backlog(throughput, target, work_waits(waiting, 0.1, 0.5), 0.05)
    assert violation_reference(throughput, target, reference, 0.05) == relative


@pytest.mark.parametrize(
    ("key", "value"), [("window_s", 0.0), ("tolerance", 1.0), ("tolerance", -0.1), ("warmup_s", -1)]
)
def test_impossible_values_name_their_key(key: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=rf"objective\.qos\.{key}"):
        QoSConfig(**{key: value})
