"""Torch keeps to the threads that it was given, whatever simulated servers run on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = """
import numpy as np, torch
from agents.threads import set_torch_threads
from agents.vec_env import make_vec_env

set_torch_threads(1)
servers = make_vec_env(256, seed=1)
servers.reset()
servers.step(np.zeros((256, 2), dtype=np.int64))
print(torch.get_num_threads())
"""


def test_many_servers_leave_torch_the_threads_that_it_was_given() -> None:
    """In a process of its own, whose compiled code has not run on several threads yet."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == ["1"]


def test_nobody_else_sets_them() -> None:
    """A number that is set before compiled code has run would not last."""
    files = [
        file
        for room in ("agents", "baselines", "benchmarks", "envs", "examples", "experiments")
        for file in (ROOT / room).rglob("*.py")
        if "torch.set_num_threads(" in file.read_text()
    ]
    assert files == [ROOT / "agents/threads.py"]
