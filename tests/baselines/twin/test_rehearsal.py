"""Nothing is left to be compiled by the decisions about a server, which may be a live one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from envs.factory import make_simulated

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import os, sys

import numpy as np

from baselines.twin.mpc import Mpc
from baselines.twin.search import Search
from envs.factory import build_server_spec, make_env
from envs.scenario import Scenario

class Given:
    def twin(self):
        return build_server_spec(Scenario())

def compiled():
    return set(os.listdir(os.environ["PALS_COMPILED"]))

controller = Mpc(samples=2, search=Search(candidates=24, generations=2))
controller.bind(make_env(Scenario()).context)
bound = compiled()
controller.prepare(Given())
before, state = compiled(), None
for number, row in enumerate(np.load(sys.argv[1])):
    _, state = controller.predict(row, state, np.array([number == 0]))
assert before > bound
print(state.report()["decisions"], *sorted(compiled() - before))
"""


def test_a_planner_compiles_before_its_first_decision(tmp_path: Path) -> None:
    env = make_simulated()
    rows = [env.reset(seed=1)[0]]
    rows += [env.step(np.array([3, 5]))[0] for _ in range(11)]
    np.save(tmp_path / "rows.npy", np.stack(rows))
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT),
        "PALS_CACHE": str(tmp_path), "PALS_COMPILED": str(tmp_path / "compiled"),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path / "rows.npy")],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["6.0"]
