"""Lengths, arrival rates, factors on the model and the price of violations are learnt."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.twin.arrivals import ArrivalBelief
from baselines.twin.correction import Correction, CorrectionConfig
from baselines.twin.lengths import LengthBelief, expected_lengths
from baselines.twin.limit import LimitConfig, ViolationPrice
from envs import catalog
from envs.simulator.step_layout import STEP_MODEL


def belief(seed: int = 0, mean: float = 100.0) -> LengthBelief:
    rng = np.random.default_rng(seed)
    return LengthBelief(np.maximum(rng.exponential(mean, 20_000), 1.0).astype(np.int64))


def test_the_scale_of_lengths_follows_what_is_seen() -> None:
    lengths = belief()
    for _ in range(100):
        lengths.note(20.0, 20.0 * 200.0)
    assert lengths.scale == pytest.approx(2.0, rel=0.05)
    rng = np.random.default_rng(1)
    assert lengths.draw(rng.random(10_000)).mean() == pytest.approx(200.0, rel=0.05)


def test_remaining_lengths_are_conditional_on_what_was_reached() -> None:
    lengths, rng = belief(), np.random.default_rng(2)
    reached = np.full(20_000, 150.0)
    longer = lengths.longer_than(reached, rng.random(20_000))
    assert longer.min() > 150.0
    assert longer.mean() == pytest.approx(250.0, rel=0.05)  # an exponential has no memory


def test_a_length_beyond_the_longest_known_goes_on() -> None:
    lengths = belief()
    assert lengths.longer_than(np.array([1e7]), np.array([0.5]))[0] == 1e7 + 1.0
    assert lengths.hazard(np.array([1e7]), np.array([1e7 + 20]))[0] == 1.0


def test_hazards_are_larger_where_more_lengths_end() -> None:
    lengths = LengthBelief(np.repeat([10, 200], [100, 900]))
    early, late = lengths.hazard(np.array([5.0, 100.0]), np.array([15.0, 110.0]))
    assert early == pytest.approx(0.1, abs=0.01)
    assert late < 0.01


def test_external_traffic_is_believed_to_have_the_means_that_are_expected() -> None:
    workload = catalog.build(
        "workload",
        {"base": "external", "expected_prompt_tokens": 700.0, "expected_output_tokens": 90.0},
    )
    expected = expected_lengths(workload)
    prompts, outputs = LengthBelief(expected.prompt_tokens), LengthBelief(expected.output_tokens)
    assert prompts.mean == pytest.approx(700.0, rel=0.05)
    assert outputs.mean == pytest.approx(90.0, rel=0.05)


def drawn(arrivals: ArrivalBelief, samples: int = 4000) -> np.ndarray:
    return arrivals.draw(samples, np.arange(0.0, 10.0, 0.5), np.random.default_rng(3))


def test_a_steady_rate_is_learnt() -> None:
    rng, arrivals = np.random.default_rng(4), ArrivalBelief(1.0)
    for _ in range(400):
        arrivals.note(float(rng.poisson(5.0)), 0.5)
    assert drawn(arrivals).mean() == pytest.approx(10.0, rel=0.15)


def test_a_burst_is_noticed_within_seconds() -> None:
    rng, arrivals = np.random.default_rng(5), ArrivalBelief(4.0)
    for _ in range(200):
        arrivals.note(float(rng.poisson(2.0)), 0.5)
    before = drawn(arrivals).mean()
    for _ in range(10):
        arrivals.note(float(rng.poisson(8.0)), 0.5)
    assert before == pytest.approx(4.0, rel=0.3)
    assert drawn(arrivals).mean() > 9.0


def test_rates_are_uncertain_where_little_was_seen() -> None:
    arrivals = ArrivalBelief(4.0)
    rates = drawn(arrivals)[:, 0]
    assert rates.std() > 0.5
    assert rates.min() >= 0.0


def test_the_correction_arrives_at_what_is_wrong() -> None:
    correction = Correction(CorrectionConfig(memory_s=10.0))
    for _ in range(400):  # the real one is 25 % slower and draws 10 % less
        slower, power = np.exp(correction.log_time), np.exp(correction.log_power)
        correction.note((100.0 * 1.25 / slower, 100.0), (900.0 / 0.9 * power, 900.0), 0.5)
    assert np.exp(correction.log_time) == pytest.approx(1.25, rel=0.01)
    assert np.exp(correction.log_power) == pytest.approx(0.9, rel=0.01)


def test_without_gain_nothing_is_corrected() -> None:
    correction = Correction(CorrectionConfig(time_gain=0.0, power_gain=0.0))
    correction.note((200.0, 100.0), (100.0, 200.0), 0.5)
    assert (correction.log_time, correction.log_power) == (0.0, 0.0)


def test_a_silent_interval_corrects_nothing() -> None:
    correction = Correction(CorrectionConfig())
    correction.note((0.0, 100.0), (0.0, 100.0), 0.5)
    assert (correction.log_time, correction.log_power) == (0.0, 0.0)


def test_the_corrected_model_is_slower_and_draws_as_it_should() -> None:
    from envs.factory import build_server_spec
    from envs.scenario import Scenario
    from envs.simulator.step_model import resolve_step

    nominal = build_server_spec(Scenario()).spec.step_model
    corrected = np.zeros(1, dtype=STEP_MODEL).view(np.recarray)[0]
    correction = Correction(CorrectionConfig())
    correction.log_time, correction.log_power = np.log(1.3), np.log(0.8)
    correction.apply(nominal, corrected)
    work = (48.0, 48.0 * 500.0, 0.0, 0.0, 1e9, 1.0)
    time_s, power_w, _, _ = resolve_step(nominal, *work)
    slower_s, lower_w, _, _ = resolve_step(corrected, *work)
    assert slower_s == pytest.approx(1.3 * time_s, rel=0.02)
    assert lower_w == pytest.approx(0.8 * power_w, rel=0.05)


def test_the_price_rises_above_the_limit_and_falls_below_it() -> None:
    price = ViolationPrice(LimitConfig(), 0.02)
    for _ in range(240):
        price.note(violated=True, seconds=0.5)
    high = price.factor
    assert high > 3.0
    for _ in range(2400):
        price.note(violated=False, seconds=0.5)
    assert price.factor == pytest.approx(LimitConfig().lowest)
