"""Baseline beside the server: what it would have delivered, told from observations alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from baselines.static import Static
from baselines.twin.search import PlanSearch
from envs.factory import make_env
from envs.scenario import Scenario


@pytest.fixture
def beside(prepared_env: Any, small_search: dict[str, int], monkeypatch: Any) -> Any:
    """Returns a function that plans one level of the cap only.

    It returns windowed output: the server's, Baseline's as believed, and Baseline's as it was.
    """

    def run(level: int, load: float, seed: int = 3) -> tuple[Any, Any, Any]:
        def best(search: Any, evaluate: Any, current: Any, rng: Any) -> tuple[Any, Any]:
            return np.full_like(current, level), np.zeros(len(current))

        monkeypatch.setattr(PlanSearch, "best", best)
        return _held(prepared_env, small_search, load, seed)

    return run


def _held(
    prepared_env: Any, small_search: dict[str, int], load: float, seed: int
) -> tuple[Any, Any, Any]:
    workload = {"base": "poisson_gsm8k", "load": load}
    env, controller = prepared_env(
        {"base": "mpc", "search": small_search, "samples": 3}, workload=workload, seed=seed
    )
    baseline = make_env(Scenario(duration_s=60.0, workload=workload))
    static = Static()
    static.bind(env.context)
    observation, _ = env.reset(seed=seed)
    seen, _ = baseline.reset(seed=seed)
    state, rows = None, []
    for interval in range(120):
        action, state = controller.predict(observation, state, np.array([interval == 0]))
        believed = state.baseline.past_tokens[0].sum()
        observation, *_, own = env.step(action)
        seen, *_, other = baseline.step(static.predict(seen, None, None)[0])
        rows.append((own["telemetry"].output_tokens, believed, other["telemetry"].output_tokens))
    table = np.array(rows)
    window = np.ones(state.baseline.past_tokens.shape[1])
    ours, true = (np.convolve(table[:-1, column], window)[40:119] for column in (0, 2))
    return ours, table[41:, 1], true


@pytest.mark.parametrize("load", [0.5, 1.1])
def test_who_does_what_baseline_does_is_not_behind_it(load: float, beside: Any) -> None:
    ours, believed, true = beside(5, load)
    assert ours == pytest.approx(true)
    assert believed == pytest.approx(true, rel=0.04)


@pytest.mark.parametrize("seed", [3, 4, 5, 6])
def test_a_slow_server_is_as_far_behind_as_it_is(seed: int, beside: Any) -> None:
    """What is believed of Baseline is nearer to the truth than what the server itself did."""
    ours, believed, true = beside(0, 0.7, seed)
    error, lag = np.abs(believed / true - 1.0), np.abs(ours / true - 1.0)
    assert lag.mean() > 0.3
    assert error.mean() < 0.3 * lag.mean()
    assert error.mean() < 0.1
