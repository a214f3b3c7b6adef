from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from experiments.evaluation.statistics import (
    bootstrap,
    interquartile_mean,
    probability_of_improvement,
)

TABLES = st.integers(1, 12).flatmap(
    lambda runs: st.integers(1, 4).flatmap(
        lambda tasks: st.lists(
            st.floats(-1e3, 1e3), min_size=runs * tasks, max_size=runs * tasks
        ).map(lambda values: np.array(values).reshape(runs, tasks))
    )
)


@given(TABLES)
def test_interquartile_mean_is_the_25_percent_trimmed_mean(scores):
    assert interquartile_mean(scores) == pytest.approx(
        trim_mean(scores, 0.25, axis=None), rel=1e-9, abs=1e-9
    )


@given(TABLES)
def test_interval_holds_the_range_of_the_scores(scores):
    result = bootstrap(scores, resamples=50)
    slack = 1e-6
    assert scores.min() - slack <= result.low <= result.high <= scores.max() + slack


@given(TABLES, TABLES)
def test_improvement_and_its_reverse_add_up_to_one(first, second):
    tasks = min(first.shape[1], second.shape[1])
    a, b = first[:, :tasks], second[:, :tasks]
    there = probability_of_improvement(a, b, resamples=2).value
    back = probability_of_improvement(b, a, resamples=2).value
    assert there + back == pytest.approx(1.0)


def test_improvement_by_hand():
    # Pairs: 3>1, 3>2, 1=1 (half), 1<2: (1 + 1 + 0.5 + 0) / 4.
    assert probability_of_improvement([3.0, 1.0], [1.0, 2.0]).value == pytest.approx(0.625)


def test_improvement_by_hand_is_averaged_over_tasks():
    better_on_first_only = np.array([[2.0, 0.0]])
    assert probability_of_improvement(better_on_first_only, [[1.0, 1.0]]).value == 0.5


def test_resampling_stays_within_a_task():
    # Two tasks a thousand apart: drawing across them would move the mean by hundreds.
    scores = np.array([[0.0, 1000.0], [1.0, 1001.0], [2.0, 1002.0], [3.0, 1003.0]])
    result = bootstrap(scores, lambda drawn: drawn.mean(axis=(-2, -1)))
    assert result.value == pytest.approx(501.5)
    assert 499.9 < result.low < 501.0 < 502.0 < result.high < 503.1


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(3)
    hits = 0
    for trial in range(200):
        scores = rng.normal(5.0, 2.0, size=(20, 1))
        result = bootstrap(scores, seed=trial, resamples=400)
        hits += result.low <= 5.0 <= result.high
    assert 0.86 <= hits / 200 <= 0.99


def test_same_seed_same_interval_and_chunks_do_not_bias():
    scores = np.random.default_rng(0).normal(size=(400, 3))
    first = bootstrap(scores, seed=1)
    assert first == bootstrap(scores, seed=1)
    assert first != bootstrap(scores, seed=2)
    assert first.high - first.low == pytest.approx(4 * 0.82 / np.sqrt(600), rel=0.35)


@pytest.mark.parametrize("scores", [[], [np.nan, 1.0], [[[1.0]]]])
def test_scores_that_are_none_are_refused(scores):
    with pytest.raises(ValueError, match="scores must be"):
        bootstrap(np.array(scores))


def test_tasks_must_match():
    with pytest.raises(ValueError, match="same tasks"):
        probability_of_improvement(np.ones((2, 2)), np.ones((2, 3)))
