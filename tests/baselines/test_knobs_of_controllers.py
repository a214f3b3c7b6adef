"""A controller that computes no number is told; what lies between levels becomes the nearest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest
from typing_extensions import override

from baselines.base import KnobController
from envs.errors import ActionError
from envs.knobs import Knobs
from envs.observations import Observation


@dataclass(kw_only=True)
class Fixed(KnobController):
    """Returns what it is given."""

    knobs: Any

    @override
    def decide(self, observation: Observation, state: Any) -> tuple[Knobs, Any]:
        return self.knobs, state


def requested(knobs: Any) -> Knobs:
    env = gymnasium.make("pals/Simulated-v0")
    observation, _ = env.reset(seed=1)
    controller = Fixed(knobs=knobs)
    controller.bind(env.unwrapped.context)
    action, _ = controller.predict(observation)
    return env.step(action)[-1]["knobs"]


@pytest.mark.parametrize(
    ("knobs", "key"),
    [
        (Knobs(math.nan, 8), "power_cap_w"),
        (Knobs(math.inf, 8), "power_cap_w"),
        (Knobs(None, 8), "power_cap_w"),
        (Knobs("300", 8), "power_cap_w"),
        (Knobs(True, 8), "power_cap_w"),
        (Knobs([300.0], 8), "power_cap_w"),
        (Knobs(300.0, math.nan), "max_num_seqs"),
        (Knobs(300.0, math.inf), "max_num_seqs"),
        (Knobs(300.0, 8, math.nan), "sm_clock_mhz"),
        (Knobs(300.0, 8, -math.inf), "sm_clock_mhz"),
        (None, "must return Knobs"),
        ((300.0, 8), "must return Knobs"),
    ],
)
def test_what_is_no_number_is_refused(knobs: Any, key: str) -> None:
    with pytest.raises(ActionError, match=key):
        requested(knobs)


@pytest.mark.parametrize(
    ("knobs", "cap_w", "seqs"),
    [
        (Knobs(310.0, 9), 300.0, 8),
        (Knobs(1e9, 1000), 400.0, 64),
        (Knobs(-5.0, np.int64(0)), 150.0, 1),
        (Knobs(np.float32(300.0), np.array(8), math.inf), 300.0, 8),
    ],
)
def test_the_nearest_level_is_taken(knobs: Knobs, cap_w: float, seqs: int) -> None:
    got = requested(knobs)
    assert (got.power_cap_w, got.max_num_seqs) == (cap_w, seqs)


@pytest.mark.parametrize("decided", [None, Knobs(300.0, 8), (Knobs(300.0, 8),), "xy", 5])
def test_a_decision_without_its_state_is_told(
    monkeypatch: pytest.MonkeyPatch, decided: Any
) -> None:
    monkeypatch.setattr(Fixed, "decide", lambda self, observation, state: decided)
    with pytest.raises(ActionError, match=r"Fixed\.decide: must return Knobs and a state, got"):
        requested(None)
