"""Action encodings: there and back for every encoding, with and without a clock axis."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import catalog
from envs.actions.base import ActionEncoding, KnobGrid, finite
from envs.errors import ActionError, ConfigurationError
from envs.knobs import KnobLimits, Knobs

LIMITS = KnobLimits(100.0, 400.0, 64, 210.0, 1410.0)
CAPS = [150.0, 200.0, 250.0, 300.0, 350.0, 400.0]
ENCODINGS = catalog.names("action")
DISCRETE = ["grid", "joint"]
ABSOLUTE = [*DISCRETE, "continuous"]


def bound(name: str, sm_clock: bool = False, **overrides: object) -> ActionEncoding:
    encoding = catalog.build("action", {"base": name, "sm_clock": sm_clock, **overrides})
    encoding.bind(LIMITS, CAPS)
    return encoding


def grid_knobs(grid: KnobGrid) -> st.SearchStrategy[Knobs]:
    return st.sampled_from(grid.choices)


def as_batch(rows: list[Knobs]) -> Knobs:
    clock = None
    if any(row.sm_clock_mhz is not None for row in rows):
        clock = np.array([np.inf if r.sm_clock_mhz is None else r.sm_clock_mhz for r in rows])
    return Knobs(
        np.array([row.power_cap_w for row in rows]),
        np.array([row.max_num_seqs for row in rows]),
        clock,
    )


def assert_same(got: Knobs, wanted: Knobs) -> None:
    assert float(got.power_cap_w) == pytest.approx(wanted.power_cap_w, rel=1e-5)
    assert int(got.max_num_seqs) == wanted.max_num_seqs
    if wanted.sm_clock_mhz is None:
        assert got.sm_clock_mhz is None or np.isinf(got.sm_clock_mhz)
    else:
        assert float(got.sm_clock_mhz) == pytest.approx(wanted.sm_clock_mhz, rel=1e-5)


@pytest.mark.parametrize("sm_clock", [False, True])
@pytest.mark.parametrize("name", ABSOLUTE)
def test_every_setting_survives_the_way_there_and_back(name: str, sm_clock: bool) -> None:
    encoding = bound(name, sm_clock)
    choices = encoding.grid.choices
    assert len(choices) == 36 * (6 if sm_clock else 1)
    for knobs in choices:
        action = encoding.encode(knobs, LIMITS.highest)
        assert encoding.space.contains(action)
        assert_same(encoding.decode(action, LIMITS.highest), knobs)


@pytest.mark.parametrize("sm_clock", [False, True])
@pytest.mark.parametrize("name", DISCRETE)
def test_every_discrete_action_survives_the_way_back(name: str, sm_clock: bool) -> None:
    encoding = bound(name, sm_clock)
    seen = set()
    for knobs in encoding.grid.choices:
        action = encoding.encode(knobs, LIMITS.highest)
        again = encoding.encode(encoding.decode(action, LIMITS.highest), LIMITS.highest)
        np.testing.assert_array_equal(again, action)
        seen.add(tuple(np.atleast_1d(action).tolist()))
    assert len(seen) == len(encoding.grid.choices)


@pytest.mark.parametrize("sm_clock", [False, True])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_continuous_actions_survive_the_way_back(sm_clock: bool, data: st.DataObject) -> None:
    encoding = bound("continuous", sm_clock)
    size = encoding.space.shape[0]
    fractions = data.draw(st.lists(st.floats(-1, 1, width=32), min_size=size, max_size=size))
    action = np.array(fractions, dtype=np.float32)
    again = encoding.encode(encoding.decode(action, LIMITS.highest), LIMITS.highest)
    exact = [0, 2] if sm_clock else [0]
    np.testing.assert_allclose(again[exact], action[exact], atol=1e-5)
    # A batch limit is a whole number: a step of one sequence at its value.
    seqs = encoding.decode(action, LIMITS.highest).max_num_seqs
    assert abs(again[1] - action[1]) <= 2 * np.log2((seqs + 0.5) / max(seqs - 0.5, 0.5)) / 6


def test_continuous_actions_beyond_the_bounds_are_clipped() -> None:
    encoding = bound("continuous")
    got = encoding.decode(np.array([9.0, -9.0]), LIMITS.highest)
    assert (float(got.power_cap_w), int(got.max_num_seqs)) == (400.0, 1)


def test_continuous_knobs_between_levels_are_kept() -> None:
    encoding = bound("continuous", sm_clock=True)
    knobs = Knobs(275.0, 24, 900.0)
    assert_same(encoding.decode(encoding.encode(knobs, LIMITS.highest), LIMITS.highest), knobs)


@pytest.mark.parametrize("sm_clock", [False, True])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_delta_walks_to_any_setting_a_level_at_a_time(sm_clock: bool, data: st.DataObject) -> None:
    encoding = bound("delta", sm_clock)
    current = data.draw(grid_knobs(encoding.grid))
    goal = data.draw(grid_knobs(encoding.grid))
    for _ in range(6):
        action = encoding.encode(goal, current)
        assert encoding.space.contains(action)
        after = encoding.decode(action, current)
        before = encoding._indices(current)
        steps = np.abs(np.array(encoding._indices(after)) - np.array(before))
        assert steps.max() <= 1
        current = after
    assert_same(current, goal)


def test_delta_stays_on_the_grid_at_its_ends() -> None:
    encoding = bound("delta")
    assert_same(encoding.decode(np.array([2, 2]), Knobs(400.0, 64)), Knobs(400.0, 64))
    assert_same(encoding.decode(np.array([0, 0]), Knobs(150.0, 1)), Knobs(150.0, 1))


@pytest.mark.parametrize("sm_clock", [False, True])
@pytest.mark.parametrize("name", ENCODINGS)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_batch_equals_its_rows_one_by_one(name: str, sm_clock: bool, data: st.DataObject) -> None:
    encoding = bound(name, sm_clock)
    rows = data.draw(st.lists(grid_knobs(encoding.grid), min_size=1, max_size=4))
    current = [data.draw(grid_knobs(encoding.grid)) for _ in rows]
    one_by_one = [encoding.encode(row, now) for row, now in zip(rows, current, strict=True)]
    together = encoding.encode(as_batch(rows), as_batch(current))
    np.testing.assert_array_equal(together, np.stack(one_by_one))
    decoded = encoding.decode(together, as_batch(current))
    for index, (action, now) in enumerate(zip(one_by_one, current, strict=True)):
        single = encoding.decode(action, now)
        assert decoded.power_cap_w[index] == single.power_cap_w
        assert decoded.max_num_seqs[index] == single.max_num_seqs
        if sm_clock:
            assert decoded.sm_clock_mhz[index] == single.sm_clock_mhz
        else:
            assert decoded.sm_clock_mhz is None
            assert single.sm_clock_mhz is None


@pytest.mark.parametrize("name", ENCODINGS)
def test_knobs_off_the_grid_go_to_the_nearest(name: str) -> None:
    encoding = bound(name)
    current = Knobs(300.0, 32)
    got = encoding.decode(encoding.encode(Knobs(309.0, 30), current), current)
    expected = Knobs(309.0, 30) if name == "continuous" else Knobs(300.0, 32)
    assert_same(got, expected)


@pytest.mark.parametrize("sm_clock", [False, True])
@given(limit=st.floats(0, 500), data=st.data())
@settings(max_examples=60, deadline=None)
def test_grid_and_joint_masks_allow_exactly_the_caps_within_the_limit(
    sm_clock: bool, limit: float, data: st.DataObject
) -> None:
    grid, joint = bound("grid", sm_clock), bound("joint", sm_clock)
    caps = [cap <= limit or cap == CAPS[0] for cap in CAPS]
    grid_mask = grid.masks(limit, LIMITS.highest)
    assert grid_mask.size == sum(grid.space.nvec)
    assert grid_mask[:6].tolist() == caps
    assert grid_mask[6:].all()
    joint_mask = joint.masks(limit, LIMITS.highest)
    assert joint_mask.size == joint.space.n
    action = data.draw(st.integers(0, int(joint.space.n) - 1))
    cap = float(joint.decode(np.int64(action), LIMITS.highest).power_cap_w)
    assert joint_mask[action] == caps[CAPS.index(cap)]


@given(limit=st.floats(0, 500), cap=st.sampled_from(CAPS))
@settings(deadline=None)
def test_delta_masks_forbid_what_would_exceed_the_limit(limit: float, cap: float) -> None:
    encoding = bound("delta")
    current = Knobs(cap, 32)
    mask = encoding.masks(limit, current)
    assert mask.size == sum(encoding.space.nvec)
    assert mask[3:].all()
    assert mask[0], "down must always be allowed"
    for move in (1, 2):
        after = float(encoding.decode(np.array([move, 1]), current).power_cap_w)
        assert mask[move] == (after <= limit + 1e-9 or after == CAPS[0])


def test_continuous_actions_have_an_empty_mask() -> None:
    assert bound("continuous").masks(100.0, LIMITS.highest).size == 0


@pytest.mark.parametrize("name", ENCODINGS)
def test_spaces_have_an_axis_per_knob(name: str) -> None:
    def axes(encoding: ActionEncoding) -> int:
        if isinstance(encoding.space, gym.spaces.Discrete):
            return {36: 2, 216: 3}[int(encoding.space.n)]
        return int(encoding.space.shape[0])

    assert axes(bound(name)) == 2
    assert axes(bound(name, sm_clock=True)) == 3


def test_levels_the_server_lacks_are_dropped_and_sorted() -> None:
    encoding = bound("grid", power_caps_w=[500.0, 300.0, 120.0, 300.0], max_num_seqs=[128, 16, 2])
    assert encoding.grid.power_caps_w == (120.0, 300.0)
    assert encoding.grid.max_num_seqs == (2, 16)


def test_the_highest_clock_of_the_grid_means_a_free_clock() -> None:
    encoding = bound("grid", sm_clock=True, sm_clock_levels=3)
    assert encoding.grid.sm_clocks_mhz == (210.0, 810.0, 1410.0)
    assert {knobs.sm_clock_mhz for knobs in encoding.grid.choices} == {210.0, 810.0, None}


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"power_caps_w": [500.0, 50.0]}, "action.power_caps_w"),
        ({"max_num_seqs": [128]}, "action.max_num_seqs"),
        ({"sm_clock": True, "sm_clock_levels": 1}, "action.sm_clock_levels"),
    ],
)
def test_impossible_grids_name_their_key(overrides: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigurationError, match=key):
        bound("grid", **{"sm_clock": False, **overrides})


def test_limits_clip_knobs() -> None:
    assert LIMITS.clip(Knobs(1000, 100, 5000)) == Knobs(400.0, 64, 1410.0)
    assert LIMITS.clip(Knobs(10, 0, 1)) == Knobs(100.0, 1, 210.0)
    assert LIMITS.clip(Knobs(200, 8)) == Knobs(200.0, 8, None)
    assert replace(LIMITS, power_cap_max_w=300.0).highest == Knobs(300.0, 64, None)


@pytest.mark.parametrize("sm_clock", [False, True])
@pytest.mark.parametrize("name", ENCODINGS)
def test_one_action_gives_the_same_knobs_as_plain_numbers(name: str, sm_clock: bool) -> None:
    encoding = bound(name, sm_clock)
    encoding.space.seed(0)
    current = encoding.grid.choices[7]
    for _ in range(200):
        action = encoding.space.sample()
        knobs, plain = encoding.decode(action, current), encoding.decode_one(action, current)
        assert plain.power_cap_w == knobs.power_cap_w
        assert plain.max_num_seqs == knobs.max_num_seqs
        free = knobs.sm_clock_mhz is None or np.isinf(knobs.sm_clock_mhz)
        assert plain.sm_clock_mhz == (None if free else knobs.sm_clock_mhz)
        assert [type(value) for value in plain[:2]] == [float, int]
        assert type(plain.sm_clock_mhz) in (float, type(None))


@pytest.mark.parametrize("name", ["grid", "joint", "delta"])
def test_one_action_outside_its_space_is_refused(name: str) -> None:
    encoding = bound(name)
    for wrong in (-1, 36, 1.5, np.nan):
        action = np.int64(wrong) if name == "joint" and wrong in (-1, 36) else wrong
        given = action if name == "joint" else np.array([0, wrong])
        with pytest.raises(ActionError, match="action: must be"):
            encoding.decode_one(given, LIMITS.highest)


def test_a_knob_is_looked_at_as_the_number_that_is_used() -> None:
    """What is finite as it is given may not be as the number of double precision that is taken."""
    with np.errstate(over="ignore"), pytest.raises(ActionError, match="power_cap_w must be finite"):
        finite("power_cap_w", np.longdouble("1e400"))
    assert finite("power_cap_w", [250, 300.0]).tolist() == [250.0, 300.0]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("key", ["power_cap_w", "max_num_seqs", "sm_clock_mhz"])
@pytest.mark.parametrize("name", ENCODINGS)
def test_knobs_that_are_not_finite_are_refused(name: str, key: str, wrong: float) -> None:
    """They would become a level that nobody chose; only a clock may be infinite: it is free."""
    encoding = bound(name, sm_clock=True)
    knobs = LIMITS.highest._replace(**{key: wrong})
    one_of_two = knobs._replace(**{key: np.array([LIMITS.sm_clock_max_mhz, wrong])})
    if key == "sm_clock_mhz" and wrong == np.inf:
        assert_same(encoding.decode(encoding.encode(knobs, knobs), knobs), LIMITS.highest)
        return
    for given_knobs in (knobs, one_of_two):
        with pytest.raises(ActionError, match=f"{key} must be finite, got .*{wrong}"):
            encoding.encode(given_knobs, LIMITS.highest)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ABSOLUTE)
def test_knobs_far_above_the_grid_become_its_highest(name: str) -> None:
    encoding = bound(name, sm_clock=True)
    action = encoding.encode(Knobs(1e300, 2**62, 1e300), LIMITS.highest)
    assert_same(encoding.decode(action, LIMITS.highest), LIMITS.highest)
