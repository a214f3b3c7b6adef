"""Speed of the simulator: steps, engine iterations, requests and simulated time per second.

Run by hand on an idle machine::

    python -m benchmarks.simulator                      # the table, and simulator.json
    python -m benchmarks.simulator --repeats 9 --envs 64,256,1024
    python -m benchmarks.simulator --peer 'NAME=COMMAND {trace} {requests}'

A peer is any program that simulates the same requests: its command is run with ``{trace}``
replaced by a CSV file of the default workload (``arrived_at,num_prefill_tokens,
num_decode_tokens``, the columns that Vidur reads) and ``{requests}`` by their number.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, machine_line
from benchmarks.spread import Spread, number, rates
from experiments.reporting.docs_page import fill
from experiments.reporting.markdown import markdown_table

WORKLOAD = {"base": "poisson_gsm8k", "load": 1.2}
HIGHEST = np.array([5, 5])  # the highest cap and 64 sequences on the default grid
Measurement = tuple[str, Spread]


def single(repeats: int, steps: int) -> Iterator[Measurement]:
    """Measures ``gymnasium.make`` with all its wrappers, at saturation, on one core."""
    import gymnasium

    import envs  # noqa: F401 - registers

    env = gymnasium.make("pals/Simulated-v0", workload=WORKLOAD, max_episode_steps=10**9)
    yield from _stepped(env, steps, repeats)


def _stepped(env: Any, steps: int, repeats: int) -> Iterator[Measurement]:
    env.reset(seed=0)
    server = env.unwrapped.system
    seen: dict[str, list[float]] = {"iterations": [], "requests": []}

    def work() -> float:
        began, iterations, requests = time.perf_counter(), server.engine_steps, 0.0
        for _ in range(steps):
            requests += env.step(HIGHEST)[4]["telemetry"].finished
        elapsed_s = time.perf_counter() - began
        seen["iterations"].append((server.engine_steps - iterations) / elapsed_s)
        seen["requests"].append(requests / elapsed_s)
        return steps

    work()
    for values in seen.values():
        values.clear()
    wall, cpu = rates(work, repeats)
    yield "single environment: steps/s", wall
    yield "single environment: steps per CPU second", cpu
    yield "single environment: engine iterations/s", Spread.of(seen["iterations"])
    yield "single environment: simulated requests/s", Spread.of(seen["requests"])
    interval_s = env.unwrapped.interval_s
    yield "single environment: simulated seconds/s", _times(wall, interval_s)


def _times(spread: Spread, factor: float) -> Spread:
    return Spread(spread.median * factor, spread.low * factor, spread.high * factor, spread.repeats)


def vector(count: int, repeats: int, steps: int) -> Iterator[Measurement]:
    """Measures ``gymnasium.make_vec``: all servers in one compiled call."""
    import gymnasium

    import envs  # noqa: F401 - registers

    env = gymnasium.make_vec(
        "pals/Simulated-v0",
        num_envs=count,
        vectorization_mode="vector_entry_point",
        workload=WORKLOAD,
    )
    env.reset(seed=0)
    yield from _vector_rates(f"{count} environments", env.step, count, repeats, steps)


def stable_baselines(count: int, repeats: int, steps: int) -> Iterator[Measurement]:
    """Measures the Stable-Baselines3 view of the same servers."""
    from agents.vec_env import make_vec_env

    env = make_vec_env(count, workload=WORKLOAD)
    env.reset()
    yield from _vector_rates(f"{count} as SB3 VecEnv", env.step, count, repeats, steps)


def _vector_rates(
    name: str, step: Callable[[Any], Any], count: int, repeats: int, steps: int
) -> Iterator[Measurement]:
    actions = np.tile(HIGHEST, (count, 1))
    for _ in range(100):
        step(actions)

    def work() -> float:
        for _ in range(steps):
            step(actions)
        return count * steps

    wall, cpu = rates(work, repeats)
    yield f"{name}: steps/s", wall
    yield f"{name}: steps per CPU second", cpu


_START = """
import time
began = time.perf_counter()
import envs
imported = time.perf_counter()
import gymnasium
env = gymnasium.make("pals/Simulated-v0")
env.reset(seed=0)
env.step(env.action_space.sample())
print(imported - began, time.perf_counter() - imported)
"""


def start_up(repeats: int) -> Iterator[Measurement]:
    """Measures imports and the first step in fresh processes, without and with the cache."""
    cold, warm, imports = [], [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            cold.append(_start(folder)[1])
            imported, first = _start(folder)
            imports.append(imported)
            warm.append(first)
    yield "import envs: s", Spread.of(imports)
    yield "make, reset and one step, all compiled again: s", Spread.of(cold)
    yield "make, reset and one step, from the cache: s", Spread.of(warm)


def _start(cache: str) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _START],
        env={**os.environ, "PALS_CACHE": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    imported, first = done.stdout.split()
    return float(imported), float(first)


def peers(commands: list[str], repeats: int, requests: int) -> Iterator[Measurement]:
    """Measures other simulators on the requests of the default workload."""
    from envs import factory
    from envs.scenario import Scenario

    server_spec = factory.build_server_spec(Scenario(workload=WORKLOAD))
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "requests.csv"
        stream = server_spec.workload.stream(np.random.default_rng(0), server_spec.rate_per_s)
        chunk = stream.take(requests)
        rows = zip(
            chunk.arrival_time_s.tolist(),
            chunk.prompt_tokens.tolist(),
            chunk.output_tokens.tolist(),
            strict=True,
        )
        trace.write_text(
            "arrived_at,num_prefill_tokens,num_decode_tokens\n"
            + "".join(f"{time_s:.6f},{prompt},{output}\n" for time_s, prompt, output in rows)
        )
        for given in commands:
            name, _, command = given.partition("=")
            words = [
                word.format(trace=trace, requests=len(chunk.arrival_time_s))
                for word in shlex.split(command)
            ]

            def work(words: list[str] = words) -> float:
                subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=folder)
                return float(len(chunk.arrival_time_s))

            yield f"{name}, whole process: simulated requests/s", rates(work, repeats)[0]


def main() -> None:
    """Measures, prints a table and writes JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--envs", default="256", help="numbers of environments, with commas")
    parser.add_argument("--steps", type=int, default=20_000, help="of the single environment")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--requests", type=int, default=2000, help="that a peer simulates")
    parser.add_argument("--json", type=Path, default=Path("outputs/benchmarks/simulator.json"))
    parser.add_argument("--page", type=Path, help="page whose block `speed` gets the table")
    arguments = parser.parse_args()
    repeats = arguments.repeats
    measurements = [*start_up(min(repeats, 3)), *single(repeats, arguments.steps)]
    for text in arguments.envs.split(","):
        count = int(text)
        measurements += vector(count, repeats, max(20, 100_000 // count))
        measurements += stable_baselines(count, repeats, max(20, 100_000 // count))
    measurements += peers(arguments.peer, min(repeats, 3), arguments.requests)
    report("Simulator", measurements, arguments.json)
    if arguments.page is not None:
        fill(arguments.page, {"speed": as_markdown(measurements)})


def report(title: str, measurements: list[Measurement], file: Path) -> None:
    """Prints measurements as a table and writes them as JSON."""
    table = Table("", "median", "lowest … highest", title=f"{title} ({machine_line()})")
    for name, spread in measurements:
        text = str(spread)
        table.add_row(name, text.partition(" ")[0], text.partition(" ")[2].strip("()"))
    Console().print(table)
    file.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        **machine(),
        "measurements": {name: asdict(spread) for name, spread in measurements},
    }
    file.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    Console().print(f"Written to {file}")


def as_markdown(measurements: list[Measurement]) -> str:
    """Returns measurements as a table for a page, with the machine that they are of."""
    rows = [
        [name, number(own.median), f"{number(own.low)} … {number(own.high)}", str(own.repeats)]
        for name, own in measurements
    ]
    table = markdown_table(["measurement", "median", "lowest … highest", "repeats"], rows, "lrrr")
    return f"{machine_line()}.\n\n{table}"


if __name__ == "__main__":
    main()
