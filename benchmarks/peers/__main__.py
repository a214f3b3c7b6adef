"""Other simulators of LLM servers beside this one: speed and error on the same requests.

    python -m benchmarks.peers --blis FOLDER --rows data/argonne/All_results.csv

BLIS (``inference-sim``) is a Go program: ``FOLDER`` is its repository, after ``go build -o blis``.
A simulator that is not there is left out, with the reason.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, machine_line
from benchmarks.peers.blis import Blis
from benchmarks.peers.load import Peer, Server, batch, poisson
from benchmarks.peers.own import Own
from benchmarks.spread import number
from experiments.calibration.data.measurement import Measurement
from experiments.calibration.data.readers import argonne

SPEED = Server("meta-llama/Llama-2-7b-hf", "llama2_7b", "a100_sxm4_80gb", 1, 256)
RATE_PER_S = 8.0


def measured(file: Path, simulators: Sequence[Peer]) -> list[tuple[Server, Measurement, int]]:
    """Returns the servers of a table of measured batches that all simulators know."""
    found = []
    for row in argonne.read(file).measurements:
        gpus, tokens = row.parallelism.tensor, round(row.context_per_seq / 1.5)
        server = Server(row.model_id, row.model.name, row.gpu.name, gpus, 256)
        known = all(simulator.missing(server) is None for simulator in simulators)
        if row.dataset == argonne.DATASET and row.tpot_s and known:
            found.append((server, row, tokens))
    return found


def errors(simulator: Peer, rows: Sequence[tuple[Server, Measurement, int]]) -> list[float]:
    """Returns the relative error of the time per output token of each measured batch."""
    found = []
    for server, row, tokens in rows:
        longest_s = simulator.run(server, batch(round(row.batch), tokens)).longest_s
        assert row.tpot_s is not None
        found.append(abs(longest_s / tokens / row.tpot_s - 1.0))
    return found


def main() -> None:
    """Measures, prints a table and writes JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blis", type=Path, help="folder of the binary and its files")
    parser.add_argument("--rows", type=Path, help="All_results.csv of LLM-Inference-Bench")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("outputs/benchmarks/peers.json"))
    options = parser.parse_args()
    console = Console()
    simulators: list[Peer] = [Own()]
    blis = Blis(None if options.blis is None else options.blis.resolve())
    reason = blis.missing(SPEED)
    if reason is None:
        simulators.append(blis)
    else:
        console.print(f"{blis.name} is left out: {reason}")
    requests = poisson(options.requests, RATE_PER_S)
    answers: dict[str, list[Any]] = {simulator.name: [] for simulator in simulators}
    for _ in range(options.repeats):
        for simulator in simulators:
            answers[simulator.name].append(simulator.run(SPEED, requests))
    rows = [] if options.rows is None else measured(options.rows, simulators)
    fitted = [row for row in rows if not row[1].apart]
    others = [row for row in rows if row[1].apart]
    table = Table(
        "", "CPU µs a request", "times ours", f"error, {len(fitted)} rows of the fit",
        f"error, {len(others)} others", title=machine_line(),
    )  # fmt: skip
    facts: dict[str, Any] = {"machine": machine(), "requests": options.requests}
    own_s = np.array([answer.cpu_s for answer in answers[Own.name]])
    for simulator in simulators:
        cpu_s = np.array([answer.cpu_s for answer in answers[simulator.name]])
        ratios = cpu_s / own_s
        found = [errors(simulator, part) for part in (fitted, others)]
        table.add_row(
            simulator.name,
            number(1e6 * float(np.median(cpu_s)) / options.requests),
            f"{np.median(ratios):,.0f} ({ratios.min():,.0f} … {ratios.max():,.0f})",
            *(_shown(part) for part in found),
        )
        facts[simulator.name] = {"cpu_s": cpu_s.tolist(), "errors": found}
    console.print(table)
    console.print("Errors: of the time per output token of whole batches, median / mean.")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _shown(found: Sequence[float]) -> str:
    if not found:
        return "not measured"
    return f"{100 * float(np.median(found)):.1f} / {100 * float(np.mean(found)):.1f} %"


if __name__ == "__main__":
    main()
