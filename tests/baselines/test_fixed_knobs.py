"""The same knobs throughout, under every action encoding, alone and in a batch."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.fixed_knobs import FixedKnobs
from envs.knobs import Knobs
from envs.observations import Observation

KNOBS = [Knobs(200.0, 16), Knobs(400.0, 64), Knobs(300.0, 4)]


@pytest.mark.parametrize("encoding", ["grid", "joint", "delta", "continuous"])
def test_a_batch_asks_for_what_each_server_asks_for_alone(make_context, encoding):
    context = make_context(encoding)
    observation = np.zeros((3, len(Observation._fields)), dtype=np.float32)
    observation[:, context.layout.index("last_power_cap_w")] = 0.5
    together = FixedKnobs.per_server(KNOBS)
    together.bind(context)
    actions, _ = together.predict(observation)
    for knobs, row, action in zip(KNOBS, observation, actions, strict=True):
        alone = FixedKnobs(knobs)
        alone.bind(context)
        np.testing.assert_array_equal(alone.predict(row)[0], action)


def test_one_choice_holds_for_every_server_of_a_batch(make_context):
    context = make_context("grid")
    fixed = FixedKnobs(Knobs(200.0, 16))
    fixed.bind(context)
    one = np.zeros(len(Observation._fields), dtype=np.float32)
    actions, _ = fixed.predict(np.stack([one, one]))
    assert actions.tolist() == [fixed.predict(one)[0].tolist()] * 2


def test_a_free_clock_is_the_highest_level(make_context):
    context = make_context("grid", sm_clock=True)
    fixed = FixedKnobs.per_server([Knobs(200.0, 16, None), Knobs(200.0, 16, 1000.0)])
    fixed.bind(context)
    actions, _ = fixed.predict(np.zeros((2, len(Observation._fields)), dtype=np.float32))
    decoded = context.encoding.decode(actions, Knobs(200.0, 16, None))
    assert decoded.sm_clock_mhz[0] == np.inf
    assert decoded.sm_clock_mhz[1] < np.inf
