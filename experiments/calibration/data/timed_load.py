"""Loads that were watched in time: requests as they came, and power in short windows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.simulator.gpus import GPUSpec
from envs.simulator.models import ModelSpec
from envs.simulator.parallelism import Parallelism
from envs.workloads.base import RequestChunk

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PowerSeries:
    """Readings of the power around a change of the load.

    Attributes:
        dataset: Name of the data set.
        gpu: GPU type.
        model: Model.
        parallelism: How it was spread.
        run: What happened, and when.
        note: What is known of the load.
        time_s: Time of each reading from the change on, shape ``(readings,)``.
        power_w: Power of one GPU in watts, the same shape.
        clock_fraction: SM clock as a fraction of the highest, the same shape.
        engine: Version of the engine, as in ``vllm-0.26``; empty for the calibration's own.
    """

    dataset: str
    gpu: GPUSpec
    model: ModelSpec
    parallelism: Parallelism
    run: str
    note: str
    time_s: Floats
    power_w: Floats
    clock_fraction: Floats
    engine: str = ""


@dataclass(frozen=True)
class TimedLoad:
    """Requests, and what was seen of them in windows of equal length.

    Attributes:
        name: What happened.
        gpu: GPU type.
        model: Model.
        parallelism: How it was spread.
        requests: The requests; times count from the beginning of the first window.
        time_s: Ends of the windows, shape ``(windows,)``.
        power_w: Power of one GPU, the same shape: what :attr:`shown` says.
        iteration_s: Time of an engine step, the same shape; ``nan`` where none ended.
        shown: Whether the power is what the sensor shows at a window's end, not the mean over it.
        inferred: Whether the times of the requests are inferred from the readings.
        clock_limit: Highest clock that the site allowed, as a fraction of the highest there is.
        from_s: Time from which windows are compared: before it the load is not all known.
        until_s: Time until which they are.
        engine: Version of the engine, as of a :class:`PowerSeries`.
        even_routing: Whether the model's weights were random, so that every expert is as likely.
    """

    name: str
    gpu: GPUSpec
    model: ModelSpec
    parallelism: Parallelism
    requests: RequestChunk
    time_s: Floats
    power_w: Floats
    iteration_s: Floats
    shown: bool = False
    inferred: bool = False
    clock_limit: float = 1.0
    from_s: float = 0.0
    until_s: float = math.inf
    engine: str = ""
    even_routing: bool = False

    @property
    def compared(self) -> NDArray[np.bool_]:
        """Which windows are compared, shape ``(windows,)``."""
        return (self.time_s > self.from_s) & (self.time_s <= self.until_s)


_Request = tuple[float, int, int]
ENDLESS = 4000
"""Output tokens of a request that decodes as long as the readings go."""
LOADS: dict[str, tuple[_Request, ...]] = {
    "q8_a100_r2p5 idle_to_busy": ((0.05, 759, 16), (0.36, 24, 22), (1.50, 24, ENDLESS)),
    "q8_a100_r2p5 busy_to_idle": ((-2.5, 64, 205),),
    "gemma26b_a100_tp2 idle_to_busy": ((0.03, 768, 32), (0.72, 64, ENDLESS), (1.45, 64, ENDLESS)),
    "gemma26b_a100_tp2 busy_to_idle": ((-2.5, 64, 350), (-2.4, 64, 250)),
    "q8_h100_r4 idle_to_busy": ((0.03, 759, 16), (0.25, 759, 16), (1.05, 64, ENDLESS)),
    "q8_h100_r4 busy_to_idle": ((-3.0, 64, 405),) * 4,
    "l70b_h100_tp4 cap_binding": (*((-6.0, 500, ENDLESS),) * 12, (0.0, 2172, ENDLESS)),
    "q8_a100_agentic idle_to_busy_prefill": ((0.05, 752, ENDLESS),) * 24,
    "q8_a100_agentic prefill_stretch": (
        *((-2.0, 9000, ENDLESS),) * 4,
        *((0.1 + 0.01 * index, 16500, 2) for index in range(4)),
    ),
}
"""Requests behind the load steps of ``transients.csv``: arrival, prompt and output. Their notes
say how long the prompts were and what came after what; the times are inferred from the readings, so
that the height and the shape of a step are compared, not its beginning."""


def noted_load(series: PowerSeries) -> TimedLoad | None:
    """Returns a load step with the requests that its note tells of; ``None`` if it tells none."""
    found = LOADS.get(series.run)
    if found is None:
        return None
    begin_s = min(float(series.time_s[0]), *(arrival for arrival, _, _ in found)) - 0.25
    arrival, prompt, output = np.array(found).T
    return TimedLoad(
        name=series.run,
        gpu=series.gpu,
        model=series.model,
        parallelism=series.parallelism,
        requests=RequestChunk(arrival - begin_s, prompt.astype(np.int64), output.astype(np.int64)),
        time_s=series.time_s - begin_s,
        power_w=series.power_w,
        iteration_s=np.full(len(series.time_s), np.nan),
        shown=True,
        inferred=True,
        clock_limit=float(series.clock_fraction.max()),
        engine=series.engine,
    )
