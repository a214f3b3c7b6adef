"""The energy counter is compared with the power sensor once, at the start."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from envs.live import sampler
from envs.live.devices.base import Reading


def told(factor: float, seconds: int, caplog: pytest.LogCaptureFixture) -> str:
    """Returns the warnings about a counter that runs faster than the sensor by a factor."""
    looked_at: Any = SimpleNamespace(_compared_s=0.0, _counted_j=0.0, _integrated_j=0.0)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for second in range(seconds):
            pair = [reading(second, factor), reading(second + 1, factor)]
            power = sampler.summarise(pair)
            sampler.PowerSampler._compare(looked_at, pair, power)
    return caplog.text


def reading(second: float, factor: float) -> Reading:
    """200 W, and a counter that counts so many times as much."""
    return Reading(
        second, (200.0,), (200.0 * factor * second,), (1200.0,), (400.0,), None, (False,)
    )


@pytest.mark.parametrize(("factor", "words"), [(1.06, "6 % more"), (0.9, "10 % less")])
def test_a_counter_that_is_off_by_more_than_a_twentieth_is_said_so_once(
    factor: float, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = told(factor, 60, caplog)
    assert text.count("energy counter") == 1
    assert words in text


@pytest.mark.parametrize("factor", [1.04, 0.96, 1.0])
def test_a_counter_that_agrees_is_no_news(factor: float, caplog: pytest.LogCaptureFixture) -> None:
    assert told(factor, 60, caplog) == ""


def test_a_moment_is_too_short_to_tell(caplog: pytest.LogCaptureFixture) -> None:
    assert told(2.0, 5, caplog) == ""
