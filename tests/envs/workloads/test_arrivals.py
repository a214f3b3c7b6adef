import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare, kstest

from envs.errors import ConfigurationError
from envs.workloads.bursty import Bursty
from envs.workloads.closed_loop import ClosedLoop
from envs.workloads.diurnal import Diurnal
from envs.workloads.poisson import Poisson
from envs.workloads.synthetic import SyntheticWorkload
from experiments.fit_workload import BurstyFit, dispersion, fit_bursty


def times(workload: SyntheticWorkload, rate_per_s: float, count: int) -> NDArray[np.float64]:
    return workload.stream(np.random.default_rng(11), rate_per_s).take(count).arrival_time_s


@pytest.mark.parametrize("rate_per_s", [0.05, 7.0, 900.0])
def test_poisson_gaps_are_exponential_with_the_asked_mean(rate_per_s: float) -> None:
    gaps = np.diff(times(Poisson(), rate_per_s, 50_001))
    assert kstest(gaps * rate_per_s, "expon").pvalue > 0.001
    assert gaps.mean() * rate_per_s == pytest.approx(1.0, abs=4 / np.sqrt(50_000))


def test_poisson_counts_have_a_dispersion_of_one() -> None:
    assert dispersion(times(Poisson(), 10.0, 300_000), 5.0) == pytest.approx(1.0, abs=0.08)


@pytest.mark.parametrize(
    ("ratio", "fraction", "duration_s"),
    [(1.517, 0.372, 73.0), (4.0, 0.2, 20.0), (50.0, 0.05, 2.0), (1.0, 0.5, 10.0)],
)
def test_bursty_has_the_asked_mean_rate_and_burstiness(
    ratio: float, fraction: float, duration_s: float
) -> None:
    workload = Bursty(burst_ratio=ratio, burst_fraction=fraction, burst_duration_s=duration_s)
    rate_per_s = 10.0
    time_s = times(workload, rate_per_s, 2_000_000)
    expected = BurstyFit(rate_per_s, ratio, fraction, duration_s, 0.0)
    # The variance of the mean over a long time follows from the dispersion.
    tolerance = 4 * np.sqrt(expected.dispersion(time_s[-1]) / len(time_s))
    assert len(time_s) / time_s[-1] == pytest.approx(rate_per_s, rel=tolerance)
    for window_s in (0.2, 1.0, 10.0):
        assert dispersion(time_s, window_s) == pytest.approx(
            expected.dispersion(window_s), rel=0.06
        )


def test_bursty_episodes_begin_in_both_states() -> None:
    workload = Bursty(burst_ratio=100.0, burst_fraction=0.3, burst_duration_s=1e6)
    firsts = np.array(
        [
            workload.stream(np.random.default_rng(seed), 10.0).take(100).arrival_time_s[-1]
            for seed in range(400)
        ]
    )
    bursts = (firsts < 20.0).mean()  # 100 requests take 3 s in a burst and 300 s outside
    assert bursts == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / 400))


def test_the_fit_recovers_bursts_that_were_generated() -> None:
    truth = Bursty(burst_ratio=3.0, burst_fraction=0.25, burst_duration_s=30.0)
    fit = fit_bursty(times(truth, 6.0, 40_000))
    assert fit.rate_per_s == pytest.approx(6.0, rel=0.1)
    assert fit.burst_ratio == pytest.approx(3.0, rel=0.1)
    assert fit.burst_fraction == pytest.approx(0.25, rel=0.2)
    assert fit.burst_duration_s == pytest.approx(30.0, rel=0.2)
    assert fit.log_likelihood_gain > 100.0


def test_the_fit_finds_little_in_a_poisson_process() -> None:
    assert fit_bursty(times(Poisson(), 6.0, 10_000)).log_likelihood_gain < 10.0


@pytest.mark.parametrize("ratio", [1.0, 3.0, 200.0])
@pytest.mark.parametrize("start", [0.0, 0.6])
def test_diurnal_follows_the_day_and_keeps_the_mean(ratio: float, start: float) -> None:
    day_s, days, rate_per_s = 600.0, 40, 10.0
    workload = Diurnal(peak_to_trough=ratio, period_s=day_s, start=start)
    time_s = times(workload, rate_per_s, round(1.05 * days * day_s * rate_per_s))
    time_s = time_s[time_s < days * day_s]
    expected_total = days * day_s * rate_per_s
    assert len(time_s) == pytest.approx(expected_total, abs=4 * np.sqrt(expected_total))
    bins = 48
    observed = np.histogram((time_s / day_s + start) % 1.0, bins, (0.0, 1.0))[0]
    swing = (ratio - 1.0) / (ratio + 1.0)
    edges = np.linspace(0.0, 1.0, bins + 1)
    mass = np.diff(edges - swing * np.sin(2 * np.pi * edges) / (2 * np.pi))
    assert chisquare(observed, mass * len(time_s)).pvalue > 0.001


def test_diurnal_arrivals_are_a_poisson_process_in_stretched_time() -> None:
    swing, day_s, rate_per_s = 0.5, 60.0, 5.0
    time_s = times(Diurnal(peak_to_trough=3.0, period_s=day_s), rate_per_s, 30_000)
    turn = 2 * np.pi
    expected = rate_per_s * (time_s - swing * day_s / turn * np.sin(turn * time_s / day_s))
    assert kstest(np.diff(expected), "expon").pvalue > 0.001


def test_closed_loop_has_no_arrivals_and_a_concurrency() -> None:
    workload = ClosedLoop(concurrency=12)
    assert workload.concurrency == 12
    assert not workload.needs_capacity
    assert workload.rate_per_s(100.0) == 0.0
    assert not times(workload, 0.0, 5000).any()


def test_bursts_far_shorter_than_the_gaps_between_requests_are_refused() -> None:
    hidden = Bursty(burst_duration_s=0.1)
    with pytest.raises(ConfigurationError, match=r"workload\.burst_duration_s: must be at least"):
        hidden.stream(np.random.default_rng(0), 1e-6)
    assert len(hidden.stream(np.random.default_rng(0), 1.0).take(10).prompt_tokens) == 10
