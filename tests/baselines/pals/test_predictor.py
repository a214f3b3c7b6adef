"""The forests: what they learn, what they report, and how they are kept."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skops.io

from baselines.pals import predictor as module
from baselines.pals.predictor import INPUTS, TARGETS, ForestConfig, Predictor, predictor_for
from baselines.profile import Profile
from envs.actions.base import KnobGrid
from envs.context import ControlContext
from envs.errors import ConfigurationError, PalsError

SMALL = ForestConfig(trees=10)


@pytest.fixture(scope="module")
def fitted(profile: Profile) -> Predictor:
    return Predictor.fit(profile, ForestConfig(trees=40))


@pytest.fixture
def grid(make_context: Callable[..., ControlContext]) -> KnobGrid:
    return make_context().grid


def at(profile: Profile, name: str, tensor_parallel: int) -> np.ndarray:
    rows = [row for row in profile.rows if row.tensor_parallel == tensor_parallel]
    return np.array([getattr(row, name) for row in rows]).reshape(6, 6)


def test_predictions_are_near_the_profile(
    fitted: Predictor, profile: Profile, grid: KnobGrid
) -> None:
    table = fitted.tabulate(grid, profile)
    for name, predicted in zip(TARGETS, table, strict=True):
        assert predicted.shape == (6, 6)
        error = np.abs(predicted / at(profile, name, 4) - 1)
        assert np.median(error) < 0.1, name


def test_parallelism_selects_the_prediction(
    fitted: Predictor, profile: Profile, grid: KnobGrid
) -> None:
    other = replace(profile, tensor_parallel=2)
    large = fitted.tabulate(grid, profile).throughput_tok_s
    small = fitted.tabulate(grid, other).throughput_tok_s
    assert np.median(large / small) == pytest.approx(2.0, rel=0.25)


def test_the_order_of_caps_and_batches_is_kept(
    fitted: Predictor, profile: Profile, grid: KnobGrid
) -> None:
    table = fitted.tabulate(grid, profile)
    assert np.all(np.diff(table.throughput_tok_s, axis=1) > 0)
    assert np.all(np.diff(table.throughput_tok_s[:, -1]) > 0)
    assert np.all(np.diff(table.power_w[:, -1]) > 0)


def test_errors_are_those_of_rows_held_out(fitted: Predictor, profile: Profile) -> None:
    report = fitted.report
    assert report.rows == 72
    assert set(report.mape) == set(TARGETS)
    for name in ("throughput_tok_s", "power_w"):
        inputs = module._inputs(profile.rows)
        values = np.array([getattr(row, name) for row in profile.rows])
        in_sample = np.abs(fitted.forests[name].predict(inputs) / values - 1).mean()
        assert in_sample < report.mape[name] < 0.5


def test_a_shuffled_profile_cannot_be_predicted(profile: Profile) -> None:
    rng = np.random.default_rng(0)
    throughput = rng.permutation([row.throughput_tok_s for row in profile.rows])
    rows = tuple(
        row._replace(throughput_tok_s=float(value))
        for row, value in zip(profile.rows, throughput, strict=True)
    )
    honest = Predictor.fit(profile, SMALL).report.mape
    chance = Predictor.fit(replace(profile, rows=rows), SMALL).report.mape
    assert chance["throughput_tok_s"] > 3 * honest["throughput_tok_s"]
    assert chance["power_w"] == honest["power_w"]


def test_importances_are_fractions_and_single_out_what_matters(fitted: Predictor) -> None:
    for fractions in fitted.report.importance.values():
        assert list(fractions) == list(INPUTS)
        assert sum(fractions.values()) == pytest.approx(1.0)
        assert fractions["expert_parallel"] == fractions["data_parallel"] == 0.0
    efficiency = fitted.report.importance["tokens_per_joule"]
    assert max(efficiency, key=efficiency.__getitem__) == "max_num_seqs"


def test_fitting_twice_gives_the_same(profile: Profile, grid: KnobGrid) -> None:
    one, other = Predictor.fit(profile, SMALL), Predictor.fit(profile, SMALL)
    assert one.report == other.report
    np.testing.assert_array_equal(one.tabulate(grid, profile), other.tabulate(grid, profile))
    third = Predictor.fit(profile, replace(SMALL, random_state=1))
    assert third.report != one.report


def test_stored_forests_come_back_the_same(profile: Profile, grid: KnobGrid) -> None:
    fitted = Predictor.fit(profile, SMALL)
    stored = fitted.stored()
    loaded = Predictor.restored(stored)
    assert loaded.report == fitted.report
    np.testing.assert_array_equal(loaded.tabulate(grid, profile), fitted.tabulate(grid, profile))
    with zipfile.ZipFile(io.BytesIO(stored)) as archive:
        assert not [name for name in archive.namelist() if name.endswith((".pkl", ".pickle"))]


class Foreign:
    """A type that no forest is made of."""

    def __init__(self) -> None:
        self.value = 1


def test_foreign_types_are_refused() -> None:
    stored = skops.io.dumps({"forests": {"power_w": Foreign()}, "report": "{}"})
    with pytest.raises(PalsError, match=r"refused, they hold .*Foreign"):
        Predictor.restored(stored)


def test_damaged_forests_are_refused() -> None:
    with pytest.raises(PalsError, match="not stored forests"):
        Predictor.restored(b"no forest")


def test_forests_are_fitted_once_per_profile_and_configuration(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path))
    fits: list[str] = []
    real = Predictor.fit

    def counting(asked: Profile, config: ForestConfig) -> Predictor:
        fits.append(asked.key)
        return real(asked, config)

    monkeypatch.setattr(Predictor, "fit", counting)
    first = predictor_for(profile, SMALL)
    assert predictor_for(profile, SMALL).report == first.report
    assert fits == [profile.key]
    predictor_for(replace(profile, key="another"), SMALL)
    predictor_for(profile, replace(SMALL, trees=11))
    assert fits == [profile.key, "another", profile.key]
    assert len(list((tmp_path / "forests").glob("*.skops"))) == 3


def test_forests_follow_the_measurements_whatever_the_profile_is_called(
    profile: Profile, grid: KnobGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path))
    rows = tuple(row._replace(throughput_tok_s=8.0 * row.throughput_tok_s) for row in profile.rows)
    again = replace(profile, rows=rows)  # a second measurement of the same live server
    slow = predictor_for(profile, SMALL).tabulate(grid, profile)
    fast = predictor_for(again, SMALL).tabulate(grid, again)
    np.testing.assert_allclose(fast.throughput_tok_s, 8.0 * slow.throughput_tok_s)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "swap", "pipe", "folder"])
def test_kept_forests_that_are_not_as_written_are_fitted_again(
    profile: Profile,
    grid: KnobGrid,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    monkeypatch.setenv("PALS_CACHE", str(tmp_path))
    fitted = predictor_for(profile, SMALL).tabulate(grid, profile)
    (file,) = (tmp_path / "forests").iterdir()
    content = file.read_bytes()
    other = replace(profile, rows=tuple(row._replace(power_w=9.0) for row in profile.rows))
    predictor_for(other, SMALL)
    file.unlink()
    if damage == "flip":
        file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        file.touch()
    elif damage == "swap":
        (stranger,) = (tmp_path / "forests").iterdir()
        stranger.rename(file)
    elif damage == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    again = predictor_for(profile, SMALL).tabulate(grid, profile)
    np.testing.assert_array_equal(again, fitted)
    assert caplog.text.count("again") == 1
    assert file.name in caplog.text


@pytest.mark.parametrize(("values", "key"), [({"trees": 0}, "trees"), ({"folds": 1}, "folds")])
def test_impossible_forests_name_their_key(values: dict[str, int], key: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"controller\.forest\.{key}"):
        ForestConfig(**values)


def test_profiles_that_cannot_be_fitted_are_named(profile: Profile) -> None:
    with pytest.raises(ConfigurationError, match="folds"):
        Predictor.fit(replace(profile, rows=profile.rows[:3]), SMALL)
    broken = (profile.rows[0]._replace(power_w=0.0), *profile.rows[1:])
    with pytest.raises(ConfigurationError, match="power_w"):
        Predictor.fit(replace(profile, rows=broken), SMALL)
