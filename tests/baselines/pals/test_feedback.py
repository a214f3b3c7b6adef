"""The PID loop: its terms, its bounds, and what it can correct."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.pals.feedback import Feedback, FeedbackState
from envs.errors import ConfigurationError

ERRORS = st.lists(st.floats(-5, 1), min_size=1, max_size=100)


def test_each_term_does_its_part() -> None:
    start = FeedbackState(integral=0.0, error=0.1)
    assert Feedback(kp=0.5, ki=0.0, kd=0.0).correct(0.2, 0.5, start, False)[0] == pytest.approx(0.1)
    assert Feedback(kp=0.0, ki=0.4, kd=0.0).correct(0.2, 0.5, start, False)[0] == pytest.approx(
        0.04
    )
    assert Feedback(kp=0.0, ki=0.0, kd=1.0).correct(0.2, 0.5, start, False)[0] == pytest.approx(0.2)


def test_the_first_error_has_no_slope() -> None:
    assert Feedback(kp=0.0, ki=0.0, kd=1.0).correct(0.3, 0.5, FeedbackState(), False)[0] == 0.0


@given(errors=ERRORS, one_sided=st.booleans(), saturated=st.booleans())
@settings(deadline=None)
def test_the_correction_stays_within_its_limit(
    errors: list[float], one_sided: bool, saturated: bool
) -> None:
    loop = Feedback(kp=1.0, ki=0.5, kd=0.5, limit=0.25, one_sided=one_sided)
    state = FeedbackState()
    for error in errors:
        correction, state = loop.correct(error, 0.5, state, saturated)
        lowest = 0.0 if one_sided else -0.25
        assert lowest <= correction <= 0.25
        assert lowest <= state.integral <= 0.25


def test_only_the_symmetric_loop_winds_down() -> None:
    for one_sided, expected in ((True, 0.0), (False, -0.2)):
        loop = Feedback(kp=0.0, ki=0.1, kd=0.0, limit=0.2, one_sided=one_sided)
        state = FeedbackState()
        for _ in range(100):
            correction, state = loop.correct(-0.3, 0.5, state, False)
        assert correction == pytest.approx(expected)


def test_a_long_shortfall_does_not_wind_the_integral_up() -> None:
    loop = Feedback(kp=0.0, ki=0.1, kd=0.0, limit=0.2)
    state = FeedbackState()
    for _ in range(1000):
        _, state = loop.correct(0.5, 0.5, state, False)
    correction, state = loop.correct(-1.0, 0.5, state, False)
    assert correction == pytest.approx(0.15)


def test_nothing_is_integrated_while_nothing_faster_is_left() -> None:
    loop = Feedback(kp=0.0, ki=0.1, kd=0.0)
    assert loop.correct(0.5, 0.5, FeedbackState(0.1, 0.5), True)[0] == pytest.approx(0.1)
    assert loop.correct(-0.5, 0.5, FeedbackState(0.1, 0.5), True)[0] < 0.1


def test_a_constant_model_error_is_corrected() -> None:
    """A server that delivers 15 % less than promised is brought to its target."""
    loop = Feedback(kp=0.2, ki=0.1, kd=0.0, limit=0.3)
    state, promised = FeedbackState(), 1.0
    for _ in range(400):
        error = 1.0 - 0.85 * promised
        correction, state = loop.correct(error, 0.5, state, False)
        promised = 1.0 + correction
    assert 0.85 * promised == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize("values", [{"kp": -1.0}, {"ki": -1.0}, {"kd": -1.0}, {"limit": 1.0}])
def test_impossible_gains_name_their_key(values: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=rf"controller\.feedback\.{next(iter(values))}"):
        Feedback(**values)
