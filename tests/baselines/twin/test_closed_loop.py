"""In a closed loop Baseline, which a planner is to keep up with, has requests of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from baselines.static import Static
from baselines.twin.twins import Twins
from envs.factory import build_server_spec
from envs.scenario import Scenario

SECONDS = 200.0
CLOCK = {"base": "grid", "sm_clock": True, "sm_clock_levels": 12}


@pytest.mark.parametrize(
    ("action", "faster"),
    [("grid", 1.0), (CLOCK, 1.0), ("grid", 0.85)],
    ids=["cap and batch limit", "the clock too", "on a twin that is too slow"],
)
def test_a_planner_keeps_up_with_baseline_in_a_closed_loop(
    action: Any,
    faster: float,
    prepared_env: Any,
    beside_baseline: Any,
    small_search: dict[str, int],
) -> None:
    """Arrivals come at the pace of the server: they do not tell what Baseline would have had."""
    env, planner = prepared_env(
        {"base": "mpc", "search": small_search}, duration_s=SECONDS, workload="closed_loop",
        action=action, faster=faster,
    )  # fmt: skip
    intervals = round(SECONDS / env.context.interval_s)
    planned, held, violated = beside_baseline(env, planner, intervals=intervals)
    assert np.mean(violated) < 0.05
    drawn_j, most_j = (sum(info["telemetry"].energy_gpu_j for info in one)
                       for one in (planned, held))  # fmt: skip
    assert drawn_j < 0.98 * most_j
    clocks = {info["knobs"].sm_clock_mhz for info in planned}
    assert (len(clocks) > 1) == (action == CLOCK)


@pytest.mark.parametrize(
    ("action", "levels"),
    [("grid", (0, 5)), ("grid", (5, 2)), (CLOCK, (5, 5, 2))],
    ids=["a low cap", "a low batch limit", "a low clock"],
)
def test_what_baseline_delivers_is_known_under_any_knobs(
    action: Any, levels: tuple[int, ...], prepared_env: Any, run: Any, small_search: dict[str, int]
) -> None:
    env, planner = prepared_env(
        {"base": "mpc", "search": small_search}, duration_s=SECONDS, workload="closed_loop",
        action=action,
    )  # fmt: skip
    static = Static()
    static.bind(env.context)
    held = np.mean([info["telemetry"].output_tokens for info in run(env, static, intervals=400)[0]])
    spec = build_server_spec(Scenario(workload="closed_loop"))
    twins = Twins(planner, env.context, spec, 1)
    highest_w = np.array([env.context.limits.power_cap_max_w])
    env.reset(seed=4)
    expected, measured = [], []
    for _ in range(240):
        observation, _, _, _, info = env.step(np.array(levels))
        measured.append(info["telemetry"].output_tokens)
        observed = env.context.layout.decode(observation[None])
        output = np.array([measured[-1]])
        twins.baseline.advance(highest_w, twins.estimates, observed, output, highest_w)
        expected.append(twins.baseline.past_tokens[0, -1])
    assert np.mean(measured[60:]) < 0.9 * held
    assert np.mean(expected[60:]) == pytest.approx(held, rel=0.05)
