"""Environments that are used otherwise than meant: refused in words, or right all the same."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from envs.cluster.factory import make_cluster
from envs.errors import ActionError, PalsError
from envs.factory import make_simulated, make_simulated_vector

ROOT = Path(__file__).resolve().parents[2]
MAKERS: dict[str, Callable[..., Any]] = {
    "single": lambda **given: make_simulated(duration_s=20.0, **given),
    "vector": lambda **given: make_simulated_vector(2, duration_s=20.0, **given),
    "cluster": lambda **given: make_cluster(duration_s=20.0, **given),
}
BAD: tuple[Any, ...] = (None, "x", -1, 10**9, np.nan, [], object(), np.arange(7), {}, [1e300])


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return MAKERS[request.param]


def observations(env: Any, actions: list[Any]) -> list[Any]:
    """Returns observations and, as an environment's info tells it, its power."""
    seen = []
    for action in actions:
        observation, _, _, _, info = env.step(action)
        facts = info if "telemetry" in info else next(iter(info["nodes"].values()))
        seen.append(np.append(observation, facts["telemetry"].power_w))
    return seen


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_step_before_the_first_reset_is_refused(make: Callable[..., Any]) -> None:
    env = make()
    with pytest.raises((PalsError, gymnasium.error.ResetNeeded), match="reset"):
        env.step(env.action_space.sample())


def test_an_environment_can_be_closed_twice(make: Callable[..., Any]) -> None:
    env = make()
    env.reset(seed=0)
    env.close()
    env.close()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("action", BAD, ids=repr)
@pytest.mark.parametrize("encoding", ["grid", "continuous"])
def test_what_is_no_action_is_refused_and_the_episode_goes_on(
    make: Callable[..., Any], encoding: str, action: Any
) -> None:
    env, other = make(action=encoding), make(action=encoding)
    env.reset(seed=0)
    other.reset(seed=0)
    with pytest.raises(ActionError, match=r"^action: "):
        env.step(action)
    good = env.action_space.sample()
    np.testing.assert_array_equal(env.step(good)[0], other.step(good)[0])


@pytest.mark.parametrize("how", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))],
                         ids=["deep copy", "pickle"])  # fmt: skip
def test_a_copy_goes_on_as_the_environment_does(
    make: Callable[..., Any], how: Callable[[Any], Any]
) -> None:
    env, whole = make(), make()
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(8)]
    env.reset(seed=3)
    whole.reset(seed=3)
    observations(env, actions[:4])
    observations(whole, actions[:4])
    other = how(env)
    expected = observations(whole, actions[4:])
    np.testing.assert_array_equal(observations(other, actions[4:]), expected)
    np.testing.assert_array_equal(observations(env, actions[4:]), expected)
    np.testing.assert_array_equal(other.reset(seed=5)[0], whole.reset(seed=5)[0])


@pytest.mark.parametrize("name", ["single", "cluster"])
def test_a_forked_process_goes_on(name: str) -> None:
    env = MAKERS[name]()
    env.reset(seed=0)
    env.step(env.action_space.sample())
    child = os.fork()
    if child == 0:
        try:
            env.step(env.action_space.sample())
            env.reset(seed=1)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


THREADS = """
import os, threading
from envs.factory import make_simulated_vector

def run():
    env = make_simulated_vector(64, duration_s=20.0)
    env.reset(seed=0)
    for _ in range(20):
        env.step(env.action_space.sample())
    return env

threads = [threading.Thread(target=run) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
FORKED = """
env = run()
child = os.fork()
if child == 0:
    env.step(env.action_space.sample())
    os._exit(0)
raise SystemExit(os.waitpid(child, 0)[1] != 0)
"""


@pytest.mark.parametrize(
    ("layer", "code"), [("workqueue", THREADS + FORKED), ("default", THREADS)], ids=["fork", "not"]
)
def test_vectors_in_threads_and_forks_with_the_layer_that_the_page_names(
    layer: str, code: str
) -> None:
    variables = {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables, check=True, timeout=900
    )


def test_environments_of_their_own_in_threads_give_the_same() -> None:
    found: list[Any] = [None] * 4

    def run(index: int) -> None:
        env = MAKERS["single"]()
        env.reset(seed=0)
        found[index] = observations(env, [[1, 2]] * 20)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize(
    ("encoding", "action"),
    [
        ("joint", [1]),
        ("joint", np.array([1, 1])),
        ("joint", [[1, 1]]),
        ("delta", [1]),
        ("delta", [[1, 1]]),
        ("grid", [[1, 1]]),
        ("grid", [1]),
        ("continuous", [[0.0, 0.0]]),
        ("continuous", 0.0),
    ],
)
def test_what_is_no_single_action_is_refused(encoding: str, action: Any) -> None:
    env = gymnasium.make("pals/Simulated-v0", action=encoding, disable_env_checker=True)
    env.reset(seed=1)
    with pytest.raises(ActionError, match="action: must be"):
        env.step(action)


@pytest.mark.parametrize("action", [[[0, 0]], [0, 0], 0, [[0, 0]] * 3])
def test_a_vector_takes_one_action_for_each_server(action: Any) -> None:
    """One for all of them would be a shape's mistake that nobody sees."""
    servers = gymnasium.make_vec("pals/Simulated-v0", num_envs=2)
    servers.reset(seed=1)
    with pytest.raises(ActionError, match="action: must be"):
        servers.step(np.array(action))
