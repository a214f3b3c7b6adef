"""Speed of saved states and of plans: restores per second, and how long a planner waits.

Run by hand: ``python -m benchmarks.forks`` (half a minute). Times are those of one thread; ``wall``
is what a planner waits for, beside whatever else the machine does, ``cpu`` its own processor time.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_line
from envs.factory import build_server_spec, make_simulated
from envs.scenario import Scenario
from envs.simulator.forks import Forks
from envs.simulator.savable import SavableFleet
from envs.telemetry import NUM_TELEMETRY

INTERVAL_S = 0.5


def waits(work: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Repeats some work; returns its median and 99th percentile, and its CPU time, in seconds."""
    walls, cpus = [], []
    for _ in range(repeats):
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        work()
        cpus.append(time.process_time() - cpu_s)
        walls.append(time.perf_counter() - wall_s)
    return {
        "cpu": float(np.median(cpus)),
        "wall": float(np.median(walls)),
        "p99": float(np.quantile(walls, 0.99)),
    }


def restores(fleet: SavableFleet, count: int, repeats: int) -> dict[str, float]:
    """Sets ``count`` servers to one state after each of them went on for an interval."""
    saved = fleet.snapshot()
    copies = fleet.fork(count=count)
    found = []
    for _ in range(repeats):
        copies.advance(INTERVAL_S)
        found.append(waits(lambda: copies.restore(saved), 1))
    return {name: float(np.median([row[name] for row in found])) / count for name in found[0]}


def plans(fleet: SavableFleet, count: int, intervals: int, repeats: int) -> dict[str, float]:
    """Forks a server as it is and lets each copy follow a plan of its own."""
    rng = np.random.default_rng(0)
    shape = (1, count, 1)
    levels = [rng.choice([150.0, 250.0, 400.0], shape), rng.choice([8.0, 32.0, 64.0], shape)]
    knobs = np.stack([*levels, np.full(shape, math.inf)], axis=-1).repeat(intervals, axis=2)
    forks, columns = Forks(fleet, count), np.arange(NUM_TELEMETRY)

    def plan() -> None:
        forks.fork(intervals * INTERVAL_S)
        forks.run(knobs, INTERVAL_S, columns)

    plan()
    return waits(plan, repeats)


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plans", type=int, default=48)
    parser.add_argument("--intervals", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=300)
    options = parser.parse_args()
    table = Table("load", "", "cpu", "wall", "p99", title=machine_line())
    for load in (0.7, 1.2):
        workload = {"base": "poisson_gsm8k", "load": load}
        fleet = SavableFleet([build_server_spec(Scenario.of(workload=workload))], latency=False)
        fleet.reset(0, 1)
        for _ in range(200):
            fleet.advance(INTERVAL_S)
        env = make_simulated(workload=workload)
        env.reset(seed=0)
        single = SavableFleet(fleet.server_specs, latency=False)
        single.restore(fleet.snapshot())
        saved = single.snapshot()
        for name, seconds in {
            f"restore, of {options.plans} at once": restores(fleet, options.plans, options.repeats),
            "restore, by itself": waits(partial(single.restore, saved), 3000),
            "snapshot": waits(single.snapshot, 3000),
            "ServingEnv.clone()": waits(env.clone, 100),
            f"{options.plans} plans of {options.intervals} intervals": plans(
                fleet, options.plans, options.intervals, options.repeats
            ),
        }.items():
            table.add_row(f"{load}", name, *(_text(seconds[key]) for key in seconds))
    Console().print(table)


def _text(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.2f} µs"


if __name__ == "__main__":
    main()
