"""Signals over time: deterministic, within their bounds, and clear about bad files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.errors import ConfigurationError, WorkloadError
from envs.objectives.conditions import Conditions
from envs.objectives.signals import Constant, FromFile, RandomSteps, Regulation, Signal, Steps

TIMES = np.arange(2400) * 0.5
BOUNDED: list[Signal] = [
    RandomSteps(low=0.3, high=0.8, mean_hold_s=20.0),
    Regulation(low=0.3, high=0.8, hold_s=4.0),
    Regulation(low=0.3, high=0.8, hold_s=2.0, ramp_per_s=0.01),
]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("signal", BOUNDED, ids=lambda s: type(s).__name__)
def test_signals_stay_within_their_bounds_and_use_the_range(signal: Signal) -> None:
    values = signal.values(TIMES, rng())
    assert values.shape == TIMES.shape
    assert values.min() >= 0.3 - 1e-12
    assert values.max() <= 0.8 + 1e-12
    assert np.ptp(values) > 0.2


@pytest.mark.parametrize("signal", BOUNDED, ids=lambda s: type(s).__name__)
def test_the_same_seed_gives_the_same_signal(signal: Signal) -> None:
    np.testing.assert_array_equal(signal.values(TIMES, rng(3)), signal.values(TIMES, rng(3)))


@pytest.mark.parametrize("signal", BOUNDED, ids=lambda s: type(s).__name__)
def test_another_seed_gives_another_signal(signal: Signal) -> None:
    assert not np.array_equal(signal.values(TIMES, rng(3)), signal.values(TIMES, rng(4)))


@given(
    signal=st.sampled_from(BOUNDED),
    count=st.integers(1, 50),
    step=st.floats(0.01, 500),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None)
def test_any_horizon_has_finite_values(signal: Signal, count: int, step: float, seed: int) -> None:
    values = signal.values(np.arange(count) * step, rng(seed))
    assert values.shape == (count,)
    assert np.isfinite(values).all()


def test_constant_is_constant() -> None:
    assert set(Constant(value=0.4).values(TIMES, rng()).tolist()) == {0.4}


def test_steps_begin_again_after_the_last() -> None:
    times = np.array([0.0, 9.9, 10.0, 29.0, 30.0])
    values = Steps(levels=[1.0, 2.0, 3.0], every_s=10.0).values(times, rng())
    assert values.tolist() == [1, 1, 2, 3, 1]


def test_random_steps_hold_their_levels_for_the_mean_time() -> None:
    times = np.arange(200_000) * 0.5
    values = RandomSteps(mean_hold_s=20.0).values(times, rng())
    holds = times[-1] / np.count_nonzero(np.diff(values))
    assert holds == pytest.approx(20.0, rel=0.1)


def test_regulation_is_held_ramps_slowly_and_averages_to_the_middle() -> None:
    signal = Regulation(low=0.0, high=1.0, hold_s=4.0, ramp_per_s=0.01)
    values = signal.values(np.arange(400_000) * 1.0, rng())
    blocks = values.reshape(-1, 4)
    assert np.all(blocks == blocks[:, :1])
    assert np.abs(np.diff(blocks[:, 0])).max() <= 4 * 0.01 + 1e-9
    assert values.mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("build", "key"),
    [
        (lambda: Steps(levels=[]), "levels"),
        (lambda: Steps(every_s=0.0), "every_s"),
        (lambda: RandomSteps(mean_hold_s=0.0), "mean_hold_s"),
        (lambda: RandomSteps(low=1.0, high=0.5), "low"),
        (lambda: Regulation(hold_s=0.0), "hold_s"),
        (lambda: Regulation(reversion_s=0.0), "reversion_s"),
        (lambda: Regulation(ramp_per_s=-1.0), "ramp_per_s"),
        (lambda: Constant(value=math.nan), "value"),
    ],
)
def test_impossible_parameters_are_named(build: object, key: str) -> None:
    with pytest.raises(ConfigurationError, match=key):
        build()  # type: ignore[operator]


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "signal.csv"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_a_file_gives_the_last_value_known(tmp_path: Path) -> None:
    path = written(tmp_path, "time_s,value\n5,1.5\n10,2.5\n")
    values = FromFile(path=path).values(np.array([0.0, 5.0, 9.9, 10.0, 99.0]), rng())
    assert values.tolist() == [1.5, 1.5, 1.5, 2.5, 2.5]


def test_columns_and_scales_are_configuration(tmp_path: Path) -> None:
    path = written(tmp_path, "minute,mw\n0,1\n60,2\n")
    signal = FromFile(
        path=path, time_column="minute", value_column="mw", time_scale=1 / 60, value_scale=10.0
    )
    assert signal.values(np.array([0.0, 1.0]), rng()).tolist() == [10.0, 20.0]


def test_regulation_begins_in_the_middle_of_its_band() -> None:
    calm = Regulation(low=0.2, high=0.8, hold_s=1.0, reversion_s=1e5)
    begun = [float(calm.values(TIMES[:2], rng(seed))[0]) for seed in range(40)]
    assert np.mean(begun) == pytest.approx(0.5, abs=0.005)
    assert 0.0 < np.std(begun) < 0.005


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time_s,value\n0,1\n1,abc\n", r"signal\.csv:3: .*abc"),
        ("time_s,value\n0,1\n1\n", r"signal\.csv:3: .*value"),
        ("time_s,value\n0,nan\n", r"signal\.csv:2: value is not a finite"),
        ("time_s,value\n5,1\n4,1\n", r"signal\.csv:3: time runs backwards"),
        ("seconds,value\n5,1\n", r"signal\.csv:1: no column time_s"),
        ("time_s,value\n", r"signal\.csv: no rows"),
        ("", r"signal\.csv:1: no column time_s, value"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(WorkloadError, match=message):
        FromFile(path=path)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "signal.csv"
    file.write_bytes(b"time_s,value\n\xff\xfe,1\n")
    with pytest.raises(WorkloadError, match=r"signal\.csv"):
        FromFile(path=str(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"signal.path: no file .*none\.csv"):
        FromFile(path=str(tmp_path / "none.csv"))


def test_conditions_have_a_default_that_demands_nothing() -> None:
    nothing = Conditions()
    assert nothing.target_tok_s == 0.0
    assert nothing.power_budget_w == nothing.ttft_slo_s == nothing.tpot_slo_s == math.inf
