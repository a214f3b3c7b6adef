"""The compiled engine in plain Python gives the same numbers, and checked builds find no slip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
QUICK = """
from envs.simulator import server_spec

server_spec._SETTLE_S, server_spec._MEASURE_S = 0.5, 6.0  # plain Python takes its time
"""
EPISODES = """
import hashlib

import gymnasium
import numpy

import envs

CHOICES = {"workload": {"base": "poisson_gsm8k", "rate": 6.0}, "objective": "latency_slo"}
STEPS = %d


def digest(env, steps):
    env.action_space.seed(0)
    told = hashlib.sha256(env.reset(seed=1)[0].tobytes())
    for _ in range(steps):
        observation, reward, _, _, info = env.step(env.action_space.sample())
        numbers = numpy.array(info["telemetry"][:34], dtype=float)
        told.update(observation.tobytes() + numpy.array(reward).tobytes() + numbers.tobytes())
    assert numbers.sum() > 0
    return told.hexdigest()


print(digest(gymnasium.make("pals/Simulated-v0", **CHOICES), STEPS))
print(digest(gymnasium.make_vec("pals/Simulated-v0", num_envs=2, **CHOICES), STEPS))
"""
PRESSED = """
import numpy
from support.server_specs import Given, make_server

from envs.knobs import Knobs

server = make_server(
    Given([(0.01 * i, 60 + i % 50, 40) for i in range(200)]), kv_blocks=90, max_num_seqs=24
)
server.reset(0)
server.set_slos(0.2, 0.02)
preempted = 0.0
for turn in range(60):
    server.apply(Knobs(100.0 + 5 * turn, 2 + turn % 20, None))
    preempted += server.advance(0.3).preemptions
assert preempted > 0
print(server.latency().finished)
"""


def told(program: str, tmp_path: Path | None = None, **variables: str) -> list[str]:
    environment = {**os.environ, **variables, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    if tmp_path is not None:
        environment |= {"PALS_CACHE": str(tmp_path), "PALS_COMPILED": str(tmp_path / "compiled")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", QUICK + program],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_plain_python_gives_the_same_numbers() -> None:
    program = EPISODES % 6
    assert told(program, NUMBA_DISABLE_JIT="1") == told(program)


@pytest.mark.long
def test_no_index_of_the_kernel_is_out_of_bounds(tmp_path: Path) -> None:
    checked = told(EPISODES % 200, tmp_path, NUMBA_BOUNDSCHECK="1")
    assert list((tmp_path / "compiled").iterdir())
    assert checked == told(EPISODES % 200)
    assert told(PRESSED, tmp_path, NUMBA_BOUNDSCHECK="1") == told(PRESSED)


def test_an_index_beyond_a_list_is_an_error_in_plain_python() -> None:
    program = """
from support.server_specs import Given, make_server

from envs.simulator.kernel.views import engine_at, requests_of, server_at

made = make_server(Given([(0.0, 50, 50)]))
made.reset(0)
engine = engine_at(server_at(int(made._fleet.addresses[0])), 0)
try:
    requests_of(engine)[int(engine.capacity)].prompt_tokens
except IndexError:
    print("caught")
"""
    assert told(program, NUMBA_DISABLE_JIT="1") == ["caught"]
