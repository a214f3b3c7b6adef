"""Plays watched loads to a simulated server and compares power and step time window by window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.knobs import Knobs
from envs.simulator.calibration import Calibration
from envs.simulator.config import SimulatedServerConfig
from envs.simulator.fleet import Fleet
from envs.simulator.server_spec import ServerSpec
from envs.telemetry import COLUMN
from envs.workloads.closed_loop import ClosedLoop
from experiments.calibration.data.timed_load import TimedLoad
from experiments.calibration.validation.load_replay import MAX_NUM_SEQS, RecordedRequests
from experiments.calibration.validation.operating_points import EVEN_SPREAD
from experiments.reporting.markdown import markdown_table

Floats = NDArray[np.float64]
STEP_TOKENS = 8192
REPEATED = "load_step"


@dataclass(frozen=True)
class Played:
    """A watched load and what the simulator made of it, window by window.

    Attributes:
        load: The load.
        power_w: Simulated power of one GPU, as the load has it, shape ``(windows,)``.
        iteration_s: Simulated time of a step, the same shape; ``nan`` where none ended.
    """

    load: TimedLoad
    power_w: Floats
    iteration_s: Floats

    @property
    def rmse_w(self) -> float:
        """Root of the mean squared error of power."""
        return float(np.sqrt(np.mean(self._errors_w**2)))

    @property
    def bias_w(self) -> float:
        """Mean error of power."""
        return float(np.mean(self._errors_w))

    @property
    def _errors_w(self) -> Floats:
        errors: Floats = (self.power_w - self.load.power_w)[self.load.compared]
        return errors


def play(load: TimedLoad, calibration: Calibration) -> Played:
    """Simulates a load.

    Args:
        load: The requests and the windows.
        calibration: Coefficients of the GPU type.
    """
    if load.even_routing:
        calibration = replace(calibration, popularity_spread=EVEN_SPREAD)
    spec = ServerSpec(
        gpu=load.gpu,
        model=load.model,
        server=SimulatedServerConfig(
            tensor_parallel=load.parallelism.tensor,
            max_num_seqs=MAX_NUM_SEQS,
            max_num_batched_tokens=STEP_TOKENS,
            engine_version=load.engine,
        ),
        workload=ClosedLoop(concurrency=1),
        calibration=calibration,
    )
    fleet = Fleet([spec])
    fleet.begin(0, RecordedRequests(load.requests, endless=False), None)
    clock_mhz = load.clock_limit * load.gpu.sm_clock_max_mhz
    fleet.apply(Knobs(load.gpu.power_cap_max_w, MAX_NUM_SEQS, clock_mhz))
    power, iteration = [], []
    now_s, gpus = 0.0, load.parallelism.num_gpus
    for end_s in load.time_s:
        row = fleet.advance(max(1e-3, float(end_s) - now_s))[0]
        tokens = float(row[COLUMN.output_tokens])
        joules, seconds = float(row[COLUMN.energy_gpu_j]), float(row[COLUMN.duration_s])
        shown = float(row[COLUMN.power_w])
        power.append((shown if load.shown else joules / seconds) / gpus)
        running = float(row[COLUMN.running])
        iteration.append(running * seconds / tokens if tokens and running else np.nan)
        now_s = float(end_s)
    return Played(load, np.array(power), np.array(iteration))


def repeat_noise_w(loads: Sequence[TimedLoad]) -> float | None:
    """Returns how far windows of repeated load steps differ: root of the mean squared difference.

    ``None`` where no load step was repeated.
    """
    groups: dict[str, list[Floats]] = {}
    for load in loads:
        name, _, number = load.name.rpartition(" ")
        if REPEATED in name and number.isdigit():
            groups.setdefault(name, []).append(load.power_w)
    squares = [
        (one[:length] - other[:length]) ** 2
        for repeats in groups.values()
        for one, other in combinations(repeats, 2)
        for length in [min(len(one), len(other))]
    ]
    return float(np.sqrt(np.mean(np.concatenate(squares)))) if squares else None


def series_records(played: Sequence[Played]) -> list[dict[str, Any]]:
    """Returns one record for each load, in watts of one GPU."""
    return [
        {
            "load": p.load.name,
            "gpu": p.load.gpu.name,
            "inferred": p.load.inferred,
            "windows": int(p.load.compared.sum()),
            "measured_w": float(np.mean(p.load.power_w[p.load.compared])),
            "bias_w": p.bias_w,
            "rmse_w": p.rmse_w,
            "iteration_error": _iteration_error(p),
        }
        for p in played
    ]


def _iteration_error(played: Played) -> float | None:
    with np.errstate(invalid="ignore"):
        ratio = (played.iteration_s / played.load.iteration_s)[played.load.compared]
    good = ratio[np.isfinite(ratio)]
    return float(np.median(good) - 1.0) if good.size else None


def series_table(played: Sequence[Played]) -> str:
    """Returns the comparison as a Markdown table, and the repeat noise below it."""
    head = ["load", "GPU", "windows", "mean, measured", "bias", "RMSE", "step time, median error"]
    rows = [
        [
            r["load"] + (" *" if r["inferred"] else ""),
            r["gpu"],
            str(r["windows"]),
            f"{r['measured_w']:.0f} W",
            f"{r['bias_w']:+.0f} W",
            f"{r['rmse_w']:.0f} W",
            "–" if r["iteration_error"] is None else f"{100.0 * r['iteration_error']:+.1f} %",
        ]
        for r in series_records(played)
    ]
    noise_w = repeat_noise_w([p.load for p in played])
    table = markdown_table(head, rows)
    if noise_w is not None:
        table += f"\n\nRepeated load steps differ by {noise_w:.0f} W (root mean square) themselves."
    return table
