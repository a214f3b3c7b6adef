"""Planners keep up with Baseline as soon as there is a full window."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("controller", ["clairvoyant", "mpc"])
def test_the_first_half_minute_is_served_like_the_time_after_it(
    controller: str, prepared_env: Any, beside_baseline: Any, small_search: dict[str, int]
) -> None:
    workload = {"base": "poisson_gsm8k", "load": 0.7}
    env, planner = prepared_env({"base": controller, "search": small_search}, workload=workload)
    _, _, violated = beside_baseline(env, planner, intervals=60)
    assert sum(violated) <= 4
