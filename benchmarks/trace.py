"""A day's trace of millions of requests: time to read and to replay it, and memory.

Run by hand: ``python -m benchmarks.trace`` (two minutes). It writes traces of short requests to
temporary files; for each one process reads it as any recording and replays all of it, and then
another one, which finds in the cache folder what the first has kept of a large file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_line
from benchmarks.spread import number
from envs.factory import build_server_spec
from envs.scenario import Scenario
from envs.simulator.server import SimulatedServer

DAY_S = 86_400.0
INTERVAL_S = 0.5
PARTS = 4
_AT_A_TIME = 100_000
_SERVER = {"base": "simulated", "tensor_parallel": 4, "max_num_seqs": 256}


Row = tuple[str, float, float, float]
"""What was done, for how many requests, processor time in seconds, growth of the peak in MB."""


def peak_mb() -> float:
    """Returns the most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def write_trace(file: Path, requests: int) -> None:
    """Writes a day of Poisson arrivals as CSV."""
    rng = np.random.default_rng(0)
    now_s, gap_s = 0.0, DAY_S / requests
    with file.open("w", encoding="ascii") as text:
        text.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
        for begin in range(0, requests, _AT_A_TIME):
            count = min(_AT_A_TIME, requests - begin)
            times = now_s + np.cumsum(rng.exponential(gap_s, count))
            now_s = float(times[-1])
            prompts, outputs = rng.integers(20, 200, count), rng.integers(20, 200, count)
            rows = zip(times.tolist(), prompts.tolist(), outputs.tolist(), strict=True)
            text.writelines(f"{at:.6f},{prompt},{output}\n" for at, prompt, output in rows)


def read_and_replay(file: str, requests: int, name: str) -> list[Row]:
    """Reads a trace and replays all of it; what has to be loaded for that is loaded before."""
    system = SimulatedServer(build_server_spec(Scenario.of(model="olmoe_1b_7b", server=_SERVER)))
    system.reset(0)
    system.advance(INTERVAL_S)
    workload: dict[str, Any] = {"base": "azure_conv", "path": file}
    before_mb, cpu_s = peak_mb(), time.process_time()
    scenario = Scenario.of(model="olmoe_1b_7b", server=_SERVER, workload=workload)
    system = SimulatedServer(build_server_spec(scenario))
    system.reset(0)
    read_s = time.process_time() - cpu_s
    rows: list[Row] = [(f"{name}: read", float(requests), read_s, peak_mb() - before_mb)]
    for part in range(PARTS):
        before_mb, cpu_s, arrived = peak_mb(), time.process_time(), 0.0
        for _ in range(round(DAY_S / PARTS / INTERVAL_S)):
            arrived += system.advance(INTERVAL_S).arrivals
        spent_s = time.process_time() - cpu_s
        hours = f"{24 * part // PARTS} to {24 * (part + 1) // PARTS}"
        rows.append((f"{name}: replay, hours {hours}", arrived, spent_s, peak_mb() - before_mb))
    return rows


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, nargs="+", default=[40_000, 400_000, 4_000_000])
    options = parser.parse_args()
    table = Table("", "requests", "CPU µs a request", "peak grown, MB", title=machine_line())
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PALS_CACHE"] = str(Path(folder) / "cache")
        for requests in options.requests:
            file = Path(folder) / f"{requests}.csv"
            write_trace(file, requests)
            for name in ("first", "again"):  # a process each: the second finds what the first kept
                with ProcessPoolExecutor(1, spawn) as own:
                    rows = own.submit(read_and_replay, str(file), requests, name).result()
                for what, arrived, spent_s, grown_mb in rows:
                    each = number(1e6 * spent_s / max(1.0, arrived))
                    table.add_row(what, f"{arrived:,.0f}", each, f"{grown_mb:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
