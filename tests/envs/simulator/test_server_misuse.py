"""What must not be done to simulated servers ends in a message, never in a crash."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from envs.errors import WorkloadError
from envs.factory import simulated_env
from envs.scenario import Scenario
from envs.serving import ServingEnv

ROOT = Path(__file__).resolve().parents[3]
SHARED = """
import threading

import gymnasium

import envs
from envs.errors import WorkloadError

env = gymnasium.make("pals/Simulated-v0", max_episode_steps=10**9).unwrapped
env.reset(seed=0)
refused, others = [], []


def work():
    for _ in range(5000):
        try:
            env.step(env.action_space.sample())
        except WorkloadError as error:
            refused.append(str(error))
        except BaseException as error:
            others.append(repr(error))


threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert all("another thread" in line for line in refused), refused[:3]
print("alive", len(others))
"""


def made() -> ServingEnv:
    return simulated_env(Scenario(workload={"base": "poisson_gsm8k", "rate": 5.0}))


def test_a_step_before_reset_is_refused() -> None:
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        made().step(np.array([0, 0]))


def test_threads_that_share_an_environment_do_not_crash_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SHARED],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "alive" in done.stdout


def test_a_server_in_use_is_not_entered_again() -> None:
    env = made()
    env.reset(seed=0)
    fleet = env.system._fleet  # type: ignore[attr-defined]
    with fleet._in_use, pytest.raises(WorkloadError, match="another thread"):
        fleet.advance(0.5)
    with fleet._in_use, pytest.raises(WorkloadError, match="another thread"):
        fleet.reset(0, 1)
    env.step(env.action_space.sample())


def test_a_deep_copy_goes_on_by_itself() -> None:
    env = made()
    env.reset(seed=0)
    for _ in range(20):
        env.step(np.array([5, 5]))
    other = copy.deepcopy(env)
    rows = [[e.step(np.array([5, 5]))[0] for _ in range(20)] for e in (env, other)]
    np.testing.assert_array_equal(rows[0], rows[1])


def test_a_server_that_was_kept_in_a_file_goes_on() -> None:
    env = made()
    env.reset(seed=0)
    server = env.system
    server.advance(5.0)
    other = pickle.loads(pickle.dumps(server))
    assert other.advance(1.0) == server.advance(1.0)
    assert other.advance(1.0) == server.advance(1.0)
