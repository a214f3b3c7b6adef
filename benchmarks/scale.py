"""How time and memory grow with the batch, the load, the length, the fleet and the GPUs.

Run by hand: ``python -m benchmarks.scale`` (two minutes; ``--hours 24`` is the long part). Each
scenario runs in a process of its own, so that its peak memory is measured alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_line

MODEL = "olmoe_1b_7b"
"""Small enough that an A100's cache holds 1,024 sequences."""
INTERVAL_S = 0.5


def episode(scenario: dict[str, Any]) -> dict[str, float]:
    """Runs one server for ``scenario["hours"]`` and returns costs per simulated hour."""
    from envs.factory import build_server_spec
    from envs.scenario import Scenario
    from envs.simulator.server import SimulatedServer

    server = {
        "base": "simulated",
        "max_num_seqs": scenario["batch"],
        "tensor_parallel": scenario["gpus"],
    }
    workload = {"base": "poisson_gsm8k", "load": scenario["load"]}
    system = SimulatedServer(
        build_server_spec(Scenario(model=MODEL, server=server, workload=workload))
    )
    system.reset(0)
    spent = _spent(lambda: system.advance(INTERVAL_S).finished, scenario["hours"])
    return {
        "requests": spent.requests,
        "cpu_s_per_hour": spent.cpu_s / scenario["hours"],
        **spent.costs(spent.intervals),
    }


def fleet(scenario: dict[str, Any]) -> dict[str, float]:
    """Runs ``scenario["envs"]`` servers at once for ``scenario["hours"]``."""
    from envs.factory import make_simulated_vector

    env = make_simulated_vector(
        scenario["envs"],
        model=MODEL,
        workload={"base": "poisson_gsm8k", "load": scenario["load"]},
    )
    env.reset(seed=0)
    actions = env.action_space.sample()
    spent = _spent(lambda: float(env.step(actions)[4]["telemetry"].finished.sum()),
                   scenario["hours"])  # fmt: skip
    steps = spent.intervals * scenario["envs"]
    return {
        "requests": spent.requests,
        **spent.costs(steps),
        "steps_per_s": steps / spent.wall_s,
        "memory_kb_per_env": spent.first_kb / scenario["envs"],
    }


class _Spent(NamedTuple):
    """The cost of some intervals: time, memory before the first one, and growth of memory."""

    intervals: int
    requests: float
    cpu_s: float
    wall_s: float
    first_kb: float
    grown_kb: float

    def costs(self, steps: int) -> dict[str, float]:
        """Returns costs per step and request, and the growth of memory."""
        return {
            "us_per_interval": 1e6 * self.cpu_s / steps,
            "us_per_request": 1e6 * self.cpu_s / max(self.requests, 1.0),
            "grown_mb": self.grown_kb / 1024,
        }


def _spent(step: Callable[[], float], hours: float) -> _Spent:
    """Measures a number of simulated hours of a step that returns the requests it finished."""
    for _ in range(20):
        step()
    first_kb, intervals = _memory_kb(), round(hours * 3600 / INTERVAL_S)
    requests, began, began_wall = 0.0, time.process_time(), time.perf_counter()
    for _ in range(intervals):
        requests += step()
    cpu_s, wall_s = time.process_time() - began, time.perf_counter() - began_wall
    return _Spent(intervals, requests, cpu_s, wall_s, first_kb, _memory_kb() - first_kb)


def _memory_kb() -> float:
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    """Varies one axis at a time and prints one table per axis."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--axes", default="batch,load,hours,gpus,envs", help="what varies")
    parser.add_argument("--hours", default="0.25,1,6,24", help="simulated hours")
    parser.add_argument("--json", type=Path, default=Path("outputs/benchmarks/scale.json"))
    arguments = parser.parse_args()
    base = {"batch": 64, "load": 1.0, "hours": 0.5, "gpus": 4}
    axes: dict[str, list[Any]] = {
        "batch": [1, 4, 16, 64, 256, 1024, 4096],
        "load": [0.1, 0.5, 1.0, 2.0],
        "hours": [float(text) for text in arguments.hours.split(",")],
        "gpus": [1, 2, 4],
        "envs": [1, 16, 64, 256, 1024, 4096, 10_000],
    }
    found: dict[str, list[dict[str, float]]] = {}
    Console().print(machine_line())
    for axis, values in axes.items():
        if axis not in arguments.axes.split(","):
            continue
        rows = []
        for value in values:
            scenario = {**base, axis: value, **({"load": 0.9} if axis == "hours" else {})}
            if axis == "envs":
                scenario["hours"] = min(0.5, 20 / value)
            rows.append({axis: value, **_alone(fleet if axis == "envs" else episode, scenario)})
        found[axis] = rows
        table = Table(*rows[0], title=f"{MODEL}, {axis} varies")
        for row in rows:
            table.add_row(*(f"{cell:,.4g}" for cell in row.values()))
        Console().print(table)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _alone(measure: Any, scenario: dict[str, Any]) -> dict[str, float]:
    """Runs a measurement in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result: dict[str, float] = pool.apply(measure, (scenario,))
    return result


if __name__ == "__main__":
    main()
