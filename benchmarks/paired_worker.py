"""Measures one tree of the project again and again, whenever it is asked to.

Run by :mod:`benchmarks.against` with the tree as its only argument; it uses what every version of
the project has, so that it can measure old ones.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SERVERS = 256
WORKLOAD = {"base": "poisson_gsm8k", "load": 1.2}


def works() -> dict[str, tuple[Callable[[], Any], int]]:
    """Returns pieces of work by name, each with the number of steps that it takes."""
    import gymnasium

    import envs  # noqa: F401 - registers

    env: Any = gymnasium.make("pals/Simulated-v0", workload=WORKLOAD, max_episode_steps=10**9)
    many: Any = gymnasium.make_vec(
        "pals/Simulated-v0", num_envs=SERVERS, vectorization_mode="vector_entry_point",
        workload=WORKLOAD,
    )  # fmt: skip
    env.reset(seed=0)
    many.reset(seed=0)
    server = env.unwrapped.system
    highest = np.array([5, 5])
    drawn = list(np.random.default_rng(0).integers(0, 6, (1000, 2)))
    all_highest = np.tile(highest, (SERVERS, 1))
    return {
        "single, constant action": (lambda: [env.step(highest) for _ in range(2000)], 2000),
        "single, random actions": (lambda: [env.step(action) for action in drawn], 1000),
        "single, engine and telemetry": (
            lambda: [server.advance(0.5) for _ in range(2000)], 2000,
        ),
        f"{SERVERS} servers": (lambda: [many.step(all_highest) for _ in range(40)], 40 * SERVERS),
    }  # fmt: skip


def main() -> None:
    """Prints a line of rates for each line read: steps per CPU second and per second, by name."""
    sys.path.insert(0, sys.argv[1])
    pieces = works()
    for work, _ in pieces.values():
        work()
    print("ready", flush=True)
    for _ in sys.stdin:
        rates = {}
        for name, (work, steps) in pieces.items():
            cpu_s, wall_s = time.process_time(), time.perf_counter()
            work()
            rates[name] = (
                steps / (time.process_time() - cpu_s),
                steps / (time.perf_counter() - wall_s),
            )
        print(json.dumps(rates), flush=True)


if __name__ == "__main__":
    main()
