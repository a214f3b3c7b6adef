"""Baseline beside servers keeps at least one interval, however short the QoS window is."""

from __future__ import annotations

import numpy as np

from envs.factory import build_server_spec, make_env
from envs.scenario import Scenario
from experiments.imitation.beside import BaselineFleet


def test_a_window_shorter_than_an_interval_is_one() -> None:
    scenario = Scenario(duration_s=10.0, objective={"base": "efficiency", "qos": {"window_s": 0.1}})
    env = make_env(scenario)
    fleet = BaselineFleet(
        [build_server_spec(scenario)], [env.context], randomize=False, at_once=1,
        prompt_weight=0.0,
    )  # fmt: skip
    fleet.begin([3])
    for _ in range(8):
        fleet.advance(np.array([env.context.highest.power_cap_w]))
    assert fleet.past_tokens.shape == (1, 1)
    assert fleet.past_tokens[0, 0] > 0.0
