"""Actions of a wrong kind or shape: refused by name of what is expected, and nothing is done."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from envs.cluster.factory import make_cluster
from envs.errors import ActionError
from envs.factory import make_simulated, make_simulated_vector

MASKED = np.ma.masked_array([1, 2], mask=[False, True])
NO_NUMBERS: dict[str, Any] = {
    "ragged": [[0], [0, 1]],
    "masked": MASKED,
    "masked vector": np.ma.masked_array([[1, 2], [0, 1]], mask=[[False, True], [False, False]]),
    "complex": np.array([1 + 1j, 2]),
    "object": np.array([object(), 2], dtype=object),
    "date": np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[D]"),
    "duration": np.array([1, 2], dtype="timedelta64[s]"),
    "text": np.array(["1", "2"]),
    "bytes": np.array([b"1", b"2"]),
    "record": np.zeros(2, dtype=[("cap", int)]),
    "too large": [10**400, 1],
}


@pytest.fixture(params=NO_NUMBERS)
def wrong(request: pytest.FixtureRequest) -> Any:
    return NO_NUMBERS[request.param]


@pytest.mark.parametrize("encoding", ["grid", "joint", "delta", "continuous"])
def test_one_server_names_its_space(encoding: str, wrong: Any) -> None:
    env = make_simulated(action=encoding, duration_s=20.0)
    env.reset(seed=0)
    space = str(env.action_space).partition("(")[0]
    with pytest.raises(ActionError, match=rf"^action: must be numbers in {space}"):
        env.step(wrong)


@pytest.mark.parametrize("encoding", ["grid", "joint", "delta", "continuous"])
def test_many_servers_name_their_space(encoding: str, wrong: Any) -> None:
    env = make_simulated_vector(2, action=encoding, duration_s=20.0)
    env.reset(seed=0)
    space = str(env.single_action_space).partition("(")[0]
    with pytest.raises(ActionError, match=rf"^action: must be one of {space}.* for each of the 2"):
        env.step(wrong)


@pytest.mark.parametrize("encoding", ["grid", "joint", "delta", "continuous"])
def test_a_cluster_names_the_shape(encoding: str, wrong: Any) -> None:
    env = make_cluster(action=encoding, duration_s=20.0)
    env.reset(seed=0)
    with pytest.raises(ActionError, match=r"^action: must be numbers of the shape \("):
        env.step(wrong)


@pytest.mark.parametrize("extra", [[1, 1, 1], [1], [[1, 1], [1, 1]]], ids=str)
def test_more_moves_than_knobs_are_not_left_out(extra: Any) -> None:
    env, many = make_simulated(action="delta"), make_simulated_vector(2, action="delta")
    env.reset(seed=0)
    many.reset(seed=0)
    with pytest.raises(ActionError, match=r"^action: must be "):
        env.step(extra)
    with pytest.raises(ActionError, match=r"^action: must be "):
        many.step([extra, extra])


@pytest.mark.parametrize(
    ("encoding", "place", "value"),
    [("grid", -1, 99), ("grid", -1, -1), ("joint", -1, 0.5), ("joint", -1, np.nan),
     ("continuous", -1, np.nan)],
)  # fmt: skip
def test_a_wrong_action_of_one_node_is_no_failure_of_the_node(
    encoding: str, place: int, value: float
) -> None:
    env = make_cluster(action=encoding, duration_s=20.0)
    env.reset(seed=0)
    action = np.asarray(env.action_space.sample(), dtype=float)
    action[place] = value
    times = [node.info["telemetry"].time_s for node in env.cluster.nodes]
    with pytest.raises(ActionError, match=r"node node2"):
        env.step(action)
    assert all(node.alive for node in env.cluster.nodes)
    assert [node.info["telemetry"].time_s for node in env.cluster.nodes] == times


@pytest.mark.parametrize(("encoding", "weight"), [("grid", 7), ("grid", 0.5), ("continuous", 3.0),
                                                  ("continuous", np.nan)])  # fmt: skip
def test_weights_outside_the_space_are_refused(encoding: str, weight: float) -> None:
    env = make_cluster(action=encoding, allocator="by_action", duration_s=20.0)
    env.reset(seed=0)
    action = np.asarray(env.action_space.sample(), dtype=float)
    action[-1] = weight
    with pytest.raises(ActionError, match=r"^action: the nodes' weights must be "):
        env.step(action)


def test_a_cluster_takes_one_action_for_each_node() -> None:
    cluster = make_cluster(duration_s=20.0).cluster
    cluster.reset(0)
    with pytest.raises(ActionError, match=r"^action: must be one for each of the 3 nodes, got 1"):
        cluster.step([[0, 0]])


def test_whole_numbers_in_other_forms_are_taken() -> None:
    env = make_simulated(duration_s=20.0)
    env.reset(seed=0)
    wanted = env.decode(np.array([1, 2]))
    unmasked = np.ma.masked_array([1, 2], mask=False)
    for same in ([1, 2], (1, 2), np.array([1.0, 2.0]), np.array([1, 2], dtype=object), unmasked):
        assert env.decode(same) == wanted
