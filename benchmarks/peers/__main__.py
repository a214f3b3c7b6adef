"""Other simulators of LLM servers beside this one: speed and error on the same requests.

    python -m benchmarks.peers --blis FOLDER --vidur FOLDER --rows data/argonne/All_results.csv
    python -m benchmarks.peers --own server.prefix_caching=true --own server.data_parallel=2

BLIS (``inference-sim``) is a Go program: its ``FOLDER`` is its repository, after
``go build -o blis``. That of Vidur is a clone of its repository, with the profiles. A simulator
that is not there is left out, with the reason. The error of each is that of the measured rows that
it knows, with that of this one on the same rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Column, Table

from benchmarks.machine import machine, machine_line
from benchmarks.peers.blis import Blis
from benchmarks.peers.load import Answer, Peer, Server, batch, poisson
from benchmarks.peers.own import Own
from benchmarks.peers.vidur import Vidur
from benchmarks.spread import number
from experiments.calibration.data.measurement import Measurement
from experiments.calibration.data.readers import argonne

SPEED = Server("meta-llama/Llama-2-7b-hf", "llama2_7b", "a100_sxm4_80gb", 1, 256)
RATE_PER_S = 8.0


class Row(NamedTuple):
    """A measured batch.

    Attributes:
        server: What served it.
        tokens: Tokens of prompt and of output of each request.
        measurement: What was measured.
    """

    server: Server
    tokens: int
    measurement: Measurement


def measured(file: Path) -> list[Row]:
    """Returns the rows of a table of measured batches."""
    found = []
    for row in argonne.read(file).measurements:
        server = Server(row.model_id, row.model.name, row.gpu.name, row.parallelism.tensor, 256)
        if row.dataset == argonne.DATASET and row.tpot_s:
            found.append(Row(server, round(row.context_per_seq / 1.5), row))
    return found


def known_to_any(simulators: Sequence[Peer], rows: Sequence[Row]) -> Sequence[Row]:
    """Returns the rows that one of some simulators knows; all, if there is none."""
    servers = {
        server
        for server in dict.fromkeys(row.server for row in rows)
        if any(simulator.missing(server) is None for simulator in simulators)
    }
    return [row for row in rows if row.server in servers or not simulators]


def errors(simulator: Peer, rows: Sequence[Row]) -> NDArray[np.float64]:
    """Returns the relative error of the time per output token of each row; NaN: not known to it."""
    found = np.full(len(rows), np.nan)
    for server in dict.fromkeys(row.server for row in rows):
        if simulator.missing(server) is None:
            places = [place for place, row in enumerate(rows) if row.server == server]
            some = [rows[place] for place in places]
            batches = [batch(round(row.measurement.batch), row.tokens) for row in some]
            times_s = simulator.longest_s(server, batches)
            for place, row, time_s in zip(places, some, times_s, strict=True):
                assert row.measurement.tpot_s is not None
                found[place] = abs(time_s / row.tokens / row.measurement.tpot_s - 1.0)
    return found


def main() -> None:
    """Measures, prints a table and writes JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blis", type=Path, help="folder of the binary and its files")
    parser.add_argument("--vidur", type=Path, help="folder of a clone")
    parser.add_argument("--vidur-python", type=Path, help="interpreter with its packages")
    parser.add_argument(
        "--own", action="append", default=[], metavar="SETTINGS",
        help="this simulator once more, with settings such as server.data_parallel=2",
    )  # fmt: skip
    parser.add_argument("--rows", type=Path, help="All_results.csv of LLM-Inference-Bench")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("outputs/benchmarks/peers.json"))
    options = parser.parse_args()
    console = Console()
    asked = [
        *(Own(settings) for settings in options.own),
        Blis(_absolute(options.blis)),
        Vidur(_absolute(options.vidur), _absolute(options.vidur_python)),
    ]
    simulators: list[Peer] = [Own()]
    for peer in asked:
        reason = peer.missing(SPEED)
        if reason is None:
            simulators.append(peer)
        else:
            console.print(f"{peer.name} is left out: {reason}")
    requests = poisson(options.requests, RATE_PER_S)
    answers: dict[str, list[Answer]] = {simulator.name: [] for simulator in simulators}
    for _ in range(options.repeats):
        for simulator in simulators:
            answers[simulator.name].append(simulator.run(SPEED, requests))
    others = [simulator for simulator in simulators if not isinstance(simulator, Own)]
    rows = [] if options.rows is None else known_to_any(others, measured(options.rows))
    apart = np.array([bool(row.measurement.apart) for row in rows], bool)
    table = Table(
        Column(overflow="fold"), "CPU µs a request", "times ours",
        "error, rows of the fit", "error, others", title=machine_line(),
    )  # fmt: skip
    facts: dict[str, Any] = {"machine": machine(), "requests": options.requests}
    own_s = np.array([answer.cpu_s for answer in answers[Own.name]])
    own_errors = errors(simulators[0], rows)
    for simulator in simulators:
        cpu_s = np.array([answer.cpu_s for answer in answers[simulator.name]])
        ratios = cpu_s / own_s
        found = np.full(len(rows), np.nan)  # this one with other settings is timed only
        if simulator in others:
            found = errors(simulator, rows)
        elif simulator is simulators[0]:
            found = own_errors
        table.add_row(
            simulator.name,
            number(1e6 * float(np.median(cpu_s)) / options.requests),
            f"{np.median(ratios):,.1f} ({ratios.min():,.1f} … {ratios.max():,.1f})",
            *(_shown(found[part], own_errors[part]) for part in (~apart, apart)),
        )
        facts[simulator.name] = {
            "cpu_s": cpu_s.tolist(),
            "errors": [_known(found[part]).tolist() for part in (~apart, apart)],
        }
    console.print(table)
    console.print("Errors: of the time per output token of whole batches, median / mean.")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()  # not resolved: an interpreter may be a link


def _known(found: NDArray[np.float64]) -> NDArray[np.float64]:
    return found[~np.isnan(found)]


def _shown(found: NDArray[np.float64], own: NDArray[np.float64]) -> str:
    known = ~np.isnan(found)
    if not known.any():
        return "not measured"
    theirs, ours = (_percent(of[known]) for of in (found, own))
    beside = "" if np.array_equal(found, own) else f"; ours {ours}"
    return f"{theirs}{beside} ({known.sum()} rows)"


def _percent(found: NDArray[np.float64]) -> str:
    return f"{100 * np.median(found):.1f} / {100 * found.mean():.1f} %"


if __name__ == "__main__":
    main()
