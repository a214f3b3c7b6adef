"""Load steps and a stream of arrivals of a run of ``experiments.measure_gpu``, watched in time.

Power is the rise of the energy counter in windows of a quarter second, a step's time what the
server's counters say of the same windows.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from envs.errors import WorkloadError
from envs.simulator.parallelism import Parallelism
from envs.workloads.base import RequestChunk
from experiments.calibration.data.csv_table import RowError
from experiments.calibration.data.json_lines import read_json_lines
from experiments.calibration.data.readers.gpu_run_folder import RunFolder, open_run
from experiments.calibration.data.timed_load import TimedLoad

Floats = NDArray[np.float64]
WINDOW_S = 0.25
_BEFORE_S = 1.0
STREAM = "poisson"
PHASES = ("load_step", STREAM)
_TOKENS = "vllm:generation_tokens_total"
_RUNNING = "vllm:num_requests_running"


def read(folder: Path) -> list[TimedLoad]:
    """Reads the phases of a run whose load changes.

    Args:
        folder: Its folder; without the files of the telemetry there is nothing to read.

    Raises:
        WorkloadError: A file is broken; the message names it.
    """
    telemetry = folder / "telemetry.csv.gz"
    if not telemetry.is_file():
        return []
    try:
        run = open_run(folder)
    except RowError:
        return []  # its rows say why it cannot be used
    phases = [w for _, w in read_json_lines(folder / "windows.jsonl") if w["phase"] in PHASES]
    if not phases:
        return []
    table = pd.read_csv(telemetry, usecols=["time_s", "energy_j"])
    clock, energy = table.time_s.to_numpy(), table.energy_j.to_numpy()
    requests = [r for _, r in read_json_lines(folder / "requests.jsonl.gz")]
    counters = [m for _, m in read_json_lines(folder / "metrics.jsonl.gz")]
    return [
        _load(run, phase, requests, (clock, energy), counters, index)
        for index, phase in enumerate(phases)
    ]


def _load(
    run: RunFolder,
    phase: dict[str, Any],
    requests: list[dict[str, Any]],
    energy: tuple[Floats, Floats],
    counters: list[dict[str, Any]],
    index: int,
) -> TimedLoad:
    begin_s, end_s = float(phase["begin_s"]) - _BEFORE_S, float(phase["end_s"]) + _BEFORE_S
    mine = sorted(
        (_sent(r), int(r["prompt_tokens"]), int(r["output_tokens"]))
        for r in requests
        if r.get("phase") == phase["phase"] and begin_s < _sent(r) < end_s
    )
    if not mine:
        raise WorkloadError(f"{run.name}: no request of the phase {phase['phase']!r}")
    edges = np.arange(begin_s, end_s, WINDOW_S)
    joules = np.interp(edges, *_rises(*energy))
    polled = np.array([m["time_s"] for m in counters])
    tokens = np.interp(edges, polled, [m.get(_TOKENS, math.nan) for m in counters])
    running = np.interp(edges, polled, [m.get(_RUNNING, math.nan) for m in counters])
    made = np.diff(tokens)
    mean_running = 0.5 * (running[1:] + running[:-1])
    with np.errstate(divide="ignore", invalid="ignore"):
        iteration_s = np.where(made > 0.0, mean_running * WINDOW_S / made, np.nan)
    arrival, prompt, output = np.array(mine).T
    return TimedLoad(
        name=f"{run.name} {phase['phase']} {index + 1}",
        gpu=run.gpu,
        model=run.model,
        parallelism=Parallelism(),
        requests=RequestChunk(arrival - begin_s, prompt.astype(np.int64), output.astype(np.int64)),
        time_s=edges[1:] - begin_s,
        power_w=np.diff(joules) / WINDOW_S,
        iteration_s=iteration_s,
        from_s=float(phase["steady_begin_s"]) - begin_s if phase["phase"] == STREAM else 0.0,
        until_s=float(phase["steady_end_s"]) - begin_s if phase["phase"] == STREAM else math.inf,
        engine=run.engine,
        even_routing=True,  # experiments.measure_gpu serves random weights
    )


def _sent(request: dict[str, Any]) -> float:
    due = request.get("due_s")
    return float(request["sent_s"] if due is None else due)


def _rises(clock: Floats, energy: Floats) -> tuple[Floats, Floats]:
    """Returns the readings at which the counter, which changes ten times a second, had risen."""
    rose = np.flatnonzero(np.diff(energy, prepend=energy[0] - 1.0) > 0.0)
    return clock[rose], energy[rose]
