"""The sliding window: against a brute-force mean, and in evaluation as in the control loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.compiled.window import window_length, windowed_rates
from envs.factory import make_simulated

AMOUNTS = st.lists(st.integers(0, 10**6), max_size=60)


@given(amounts=AMOUNTS, length=st.integers(1, 12), interval_s=st.sampled_from([0.25, 0.5, 1.0]))
@settings(deadline=None)
def test_rate_is_the_mean_over_the_window_or_what_was_seen(
    amounts: list[int], length: int, interval_s: float
) -> None:
    rates = windowed_rates(np.array(amounts, dtype=np.float64), length * interval_s, interval_s)
    assert rates.shape == (len(amounts),)
    for index, rate in enumerate(rates):
        seen = amounts[max(0, index + 1 - length) : index + 1]
        assert rate == sum(seen) / (len(seen) * interval_s)


def test_a_window_holds_at_least_one_interval() -> None:
    assert window_length(10.0, 0.5) == 20
    assert window_length(0.1, 0.5) == 1


def test_evaluation_and_control_loop_give_the_same_rate() -> None:
    env = make_simulated()
    env.reset(seed=3)
    tokens, rates = [], []
    for _ in range(60):
        info = env.step(env.action_space.sample())[-1]
        tokens.append(info["telemetry"].output_tokens)
        rates.append(info["throughput_tok_s"])
    qos = env.context.qos
    expected = windowed_rates(np.array(tokens), qos.window_s, env.interval_s)
    assert len(set(rates)) > 20
    assert rates == pytest.approx(expected.tolist(), rel=0, abs=0)
