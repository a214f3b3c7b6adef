"""Series from files, and budgets that follow them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from envs.errors import ConfigurationError, WorkloadError
from envs.objectives.csv_series import read_series
from envs.objectives.signals import Band, Constant, FromFile, Signal

DATA = Path(os.environ.get("PALS_DATA", Path(__file__).parents[4] / "shared" / "data"))
RNG = np.random.default_rng(0)


def written(folder, text):
    file = folder / "series.csv"
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize(
    "stamps",
    [
        ("2022-01-01 00:00:00+00:00", "2022-01-01 01:00:00+00:00", "2022-01-01 02:30:00+00:00"),
        ("2022-01-01T00:00:00", "2022-01-01T01:00:00", "2022-01-01T02:30:00"),
        ("2022-03-27T00:00:00+01:00", "2022-03-27T02:00:00+02:00", "2022-03-27T03:30:00+02:00"),
    ],
)
def test_timestamps_count_from_the_first(tmp_path, stamps):
    lines = [f"{stamp},{number}" for number, stamp in enumerate(stamps)]
    path = written(tmp_path, "\n".join(["timestamp,value", *lines]))
    times, values = read_series(path, "timestamp", "value")
    assert times.tolist() == [0.0, 3600.0, 9000.0]
    assert values.tolist() == [0.0, 1.0, 2.0]


def test_a_byte_order_mark_and_empty_cells_say_nothing(tmp_path):
    path = written(tmp_path, "\ufefftime_s,value\n5,1,,\n6,2\n")
    times, values = read_series(path, "time_s", "value")
    assert (times.tolist(), values.tolist()) == ([5.0, 6.0], [1.0, 2.0])


def test_seconds_stay_as_they_are(tmp_path):
    path = written(tmp_path, "time_s,value\n5,1\n20220101,2\n")
    times, _ = read_series(path, "time_s", "value")
    assert times.tolist() == [5.0, 20220101.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timestamp,value\n2022-01-01,1\n2021-01-01,1\n", r"series.csv:3: time runs backwards"),
        ("timestamp,value\n2022-13-01,1\n", r"series.csv:2: timestamp is not a number"),
        ("timestamp,value\n2022-01-01,\n", r"series.csv:2: value is not a number"),
        ("timestamp,value\n", "no rows"),
        ("timestamp,value,note\n1,1," + "x" * 200_000, "series.csv: field larger"),
        ("timestamp,value,value\n1,1,2\n", "series.csv:1: two columns are called value"),
        ("timestamp,value\n1,0,5\n", "series.csv:2: more values than the header has columns"),
        ("timestamp,value\n1,1\n2022-01-01,1\n", r"series.csv:3: timestamp is a date, .* a number"),
        ("timestamp,value\n2022-01-01,1\n1,1\n", r"series.csv:3: timestamp is a number, .* a date"),
        ("time,value\n1,1\n", "series.csv:1: no column timestamp"),
    ],
)
def test_bad_files_name_the_line(tmp_path, text, message):
    with pytest.raises(WorkloadError, match=message):
        read_series(written(tmp_path, text), "timestamp", "value")


def test_the_value_before_a_gap_holds(tmp_path):
    path = written(tmp_path, "time_s,value\n0,1\n10,\n20,3\n")
    signal = FromFile(path=path, skip_gaps=True)
    assert signal.values(np.array([0.0, 15.0, 20.0]), RNG).tolist() == [1.0, 1.0, 3.0]


def test_a_series_plays_from_anywhere_at_any_speed(tmp_path):
    text = "timestamp,value\n" + "\n".join(f"2022-01-01T{h:02}:00:00,{h}" for h in range(24))
    signal = FromFile(
        path=written(tmp_path, text), time_column="timestamp", begin_s=7200.0, time_scale=1 / 60
    )
    times = np.array([0.0, 59.0, 60.0, 121.0, 1e6])
    assert signal.values(times, RNG).tolist() == [2.0, 2.0, 3.0, 4.0, 23.0]


class Wave(Signal):
    """One wave between 100 and 300 in 300 s."""

    def values(self, times_s, rng):
        return 200.0 - 100.0 * np.cos(2.0 * np.pi * times_s / 300.0)

    def lowest(self):
        return 100.0


def test_a_band_maps_linearly_and_clips():
    times = np.linspace(0.0, 300.0, 61)
    wave = Wave()
    plain = Band(signal=wave, low=1000.0, high=2000.0).values(times, RNG)
    assert plain.min() == pytest.approx(1000.0)
    assert plain.max() == pytest.approx(2000.0)
    np.testing.assert_allclose(plain, 1000.0 + 5.0 * (wave.values(times, RNG) - 100.0))
    turned = Band(signal=wave, low=1000.0, high=2000.0, invert=True).values(times, RNG)
    np.testing.assert_allclose(plain + turned, 3000.0)
    fixed = Band(signal=wave, low=0.0, high=1.0, from_low=200.0, from_high=250.0)
    clipped = fixed.values(times, RNG)
    assert (clipped.min(), clipped.max()) == (0.0, 1.0)
    assert ((clipped == 0.0) == (wave.values(times, RNG) <= 200.0)).all()


def test_a_constant_maps_to_an_end_of_the_band():
    values = Band(signal=Constant(value=3.0), low=5.0, high=6.0).values(np.zeros(2), RNG)
    assert values.tolist() == [5.0, 5.0]


@pytest.mark.parametrize("values", [{"low": 2.0, "high": 1.0}, {"from_low": 2.0, "from_high": 1.0}])
def test_bands_in_the_wrong_order_are_refused(values):
    with pytest.raises(ConfigurationError, match="low"):
        Band(signal=Constant(), **values)


@pytest.mark.parametrize("area", ["CISO", "PJM"])
def test_a_real_carbon_series_drives_a_budget(area):
    file = DATA / "carbon" / f"{area}_NG_avgCI.csv"
    if not file.is_file():
        pytest.skip(f"no {file}: set PALS_DATA to the folder with the data sets")
    carbon = FromFile(
        path=str(file),
        time_column="timestamp",
        value_column="avg_CI",
        time_scale=1 / 24,
        skip_gaps=True,
    )
    times = np.arange(0.0, 3600.0, 0.5)  # a day in an hour
    intensity = carbon.values(times, RNG)
    assert len(np.unique(intensity)) == 24
    assert (intensity > 0).all()
    budget = Band(signal=carbon, low=3300.0, high=5700.0, invert=True).values(times, RNG)
    assert budget.min() == 3300.0
    assert budget.max() == 5700.0
    assert np.corrcoef(intensity, budget)[0, 1] == pytest.approx(-1.0)
