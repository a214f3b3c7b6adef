"""Planners keep up with Baseline as soon as there is a full window."""

from __future__ import annotations

from typing import Any

import pytest

from baselines.static import Static
from envs.objectives.qos import violation_reference


@pytest.mark.parametrize("controller", ["clairvoyant", "mpc"])
def test_the_first_half_minute_is_served_like_the_time_after_it(
    controller: str, prepared_env: Any, run: Any, small_search: dict[str, int]
) -> None:
    workload = {"base": "poisson_gsm8k", "load": 0.7}
    env, planner = prepared_env({"base": controller, "search": small_search}, workload=workload)
    static = Static()
    static.bind(env.context)
    qos, interval_s = env.context.qos, env.context.interval_s
    planned, held = (run(env, one, intervals=60)[0] for one in (planner, static))
    violated = [
        violation_reference(
            own["throughput_tok_s"], own["conditions"].target_tok_s, beside["throughput_tok_s"],
            qos.tolerance,
        )
        for own, beside in zip(planned, held, strict=True)
    ]  # fmt: skip
    assert sum(violated[round(qos.window_s / interval_s) :]) <= 4
