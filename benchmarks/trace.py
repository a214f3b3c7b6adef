"""A day's trace of millions of requests: time to read and to replay it, and memory.

Run by hand: ``python -m benchmarks.trace`` (a minute). It writes a trace of short
requests to a temporary file, reads it as any recording and replays all of it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
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


def memory_mb() -> float:
    """Returns the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


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


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=4_000_000)
    options = parser.parse_args()
    rows: list[tuple[str, float, float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "day.csv"
        write_trace(file, options.requests)
        workload: dict[str, Any] = {"base": "azure_conv", "path": str(file)}
        before_mb, cpu_s = memory_mb(), time.process_time()
        scenario = Scenario.of(model="olmoe_1b_7b", server=_SERVER, workload=workload)
        system = SimulatedServer(build_server_spec(scenario))
        system.reset(0)
        read_s = time.process_time() - cpu_s
        rows.append(("read", float(options.requests), read_s, memory_mb() - before_mb))
        for part in range(PARTS):
            before_mb, cpu_s, arrived = memory_mb(), time.process_time(), 0.0
            for _ in range(round(DAY_S / PARTS / INTERVAL_S)):
                arrived += system.advance(INTERVAL_S).arrivals
            spent_s = time.process_time() - cpu_s
            name = f"replay, hours {24 * part // PARTS} to {24 * (part + 1) // PARTS}"
            rows.append((name, arrived, spent_s, memory_mb() - before_mb))
    table = Table("", "requests", "CPU µs a request", "memory grown, MB", title=machine_line())
    for name, requests, spent_s, grown_mb in rows:
        table.add_row(
            name, f"{requests:,.0f}", number(1e6 * spent_s / max(1.0, requests)), number(grown_mb)
        )
    Console().print(table)


if __name__ == "__main__":
    main()
