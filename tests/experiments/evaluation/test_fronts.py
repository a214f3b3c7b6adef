"""Fronts by hand: what dominates, what is reached at a limit, the area, and its uncertainty."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.evaluation.fronts import (
    Episodes,
    efficiency_at,
    front,
    front_statistics,
    hypervolume,
    thinned,
)

EFFICIENCY = np.array([1.3, 1.1, 1.2, 1.25, 1.0])
VIOLATIONS = np.array([0.06, 0.0, 0.02, 0.04, 0.03])


def test_the_front_holds_what_nothing_dominates() -> None:
    assert front(EFFICIENCY, VIOLATIONS) == [1, 2, 3, 0]
    # of two points with equal violations the more efficient one
    assert front(np.array([1.1, 1.2]), np.array([0.01, 0.01])) == [1]


def test_a_thin_front_keeps_its_ends() -> None:
    assert thinned(EFFICIENCY, VIOLATIONS, 2) == [1, 0]
    assert thinned(EFFICIENCY, VIOLATIONS, 9) == [1, 2, 3, 0]
    assert set(thinned(EFFICIENCY, VIOLATIONS, 3)) >= {1, 0}
    # five points on a line, three of them at its beginning: the one in the middle is kept
    line = np.array([0.0, 0.1, 0.2, 0.5, 1.0])
    assert thinned(1.0 + line, 0.1 * line, 3) == [0, 3, 4]
    # both axes count alike, whatever their units: most of the way lies in the last step
    rising = 1.0 + np.array([0.0, 0.004, 0.008, 0.012, 0.1])
    assert thinned(rising, np.linspace(0.0, 0.1, 5), 3) == [0, 3, 4]


def test_efficiency_at_a_limit() -> None:
    found = efficiency_at(EFFICIENCY, VIOLATIONS, np.array([0.0, 0.01, 0.05, 0.5]))
    assert found == pytest.approx([1.1, 1.15, 1.275, 1.3])
    late = efficiency_at(EFFICIENCY[:1], VIOLATIONS[:1], np.array([0.05, 0.06]))
    assert np.isnan(late[0])
    assert late[1] == 1.3


def test_the_hypervolume_is_the_mean_gain_over_limits() -> None:
    # 1.1 up to 2 %, 1.2 up to 4 %, 1.25 up to 6 %, 1.3 up to 10 %
    expected = 0.1 * 0.2 + 0.2 * 0.2 + 0.25 * 0.2 + 0.3 * 0.4
    assert hypervolume(EFFICIENCY, VIOLATIONS) == pytest.approx(expected)
    assert hypervolume(np.array([1.5]), np.array([0.2])) == 0.0
    assert hypervolume(np.array([0.9]), np.array([0.0])) == 0.0


def episodes(noise: float) -> Episodes:
    """Two points on six seeds of three scenarios, of which one has no target."""
    rng = np.random.default_rng(1)
    shape = (2, 6, 3)
    efficiency = np.array([1.1, 1.3])[:, None, None] + noise * rng.normal(size=shape)
    violations = np.array([0.01, 0.04])[:, None, None] + 0.1 * noise * rng.normal(size=shape)
    violations[..., 2] = np.nan
    return Episodes(efficiency, violations)


def test_without_noise_the_intervals_are_points() -> None:
    known = front_statistics(episodes(0.0), (0.005, 0.02, 0.05), resamples=50)
    assert known.at[0] is None
    assert known.at[1] == pytest.approx((1.1 + 0.2 / 3,) * 3)
    assert known.at[2] == pytest.approx((1.3,) * 3)
    area = 0.1 * 0.3 + 0.3 * 0.6
    assert known.hypervolume == pytest.approx((area,) * 3)
    assert np.isnan(known.low[0])
    assert known.low[-1] == pytest.approx(1.3)


def test_intervals_cover_the_mean_and_shrink_with_the_noise() -> None:
    wide, narrow = (front_statistics(episodes(noise), (0.05,)).at[0] for noise in (0.05, 0.01))
    assert wide is not None
    assert narrow is not None
    assert wide.low < wide.value < wide.high
    assert narrow.high - narrow.low < 0.5 * (wide.high - wide.low)


def test_a_front_that_never_keeps_to_a_limit_has_no_efficiency_there() -> None:
    late = Episodes(np.full((1, 4, 1), 1.5), np.full((1, 4, 1), 0.3))
    known = front_statistics(late, (0.02,), resamples=20)
    assert known.at == [None]
    assert np.isnan(known.low).all()
    assert known.hypervolume == (0.0, 0.0, 0.0)
