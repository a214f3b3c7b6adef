"""Plays recorded requests to a simulated server and takes the same means of it as were measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.latency import LATENCY_MIN_S, LATENCY_RATIO, LatencyRecord, percentile
from envs.simulator.calibration import Calibration
from envs.simulator.config import SimulatedServerConfig
from envs.simulator.fleet import Fleet
from envs.simulator.server_spec import ServerSpec
from envs.telemetry import COLUMN
from envs.workloads.base import RequestChunk
from envs.workloads.closed_loop import ClosedLoop
from experiments.calibration.data.measurement import RecordedLoad

MAX_NUM_SEQS = 256
"""vLLM's default on this size of GPU, which the recipe of the measurement leaves alone."""
_POLL_S = 0.25


@dataclass(frozen=True)
class Replay:
    """A recorded load and what the simulator made of it, over the same stretch of time.

    Attributes:
        load: The load.
        simulated: Simulated values by the names of the load's measured ones.
        cap_binding: Fraction of the stretch in which the power limit set the clock.
    """

    load: RecordedLoad
    simulated: dict[str, float]
    cap_binding: float


class RecordedRequests:
    """The requests of a load as a stream; a closed loop begins again at its end.

    Args:
        requests: Requests; times ascend.
        endless: Whether the stream begins again.
    """

    def __init__(self, requests: RequestChunk, *, endless: bool) -> None:
        self._requests = requests
        self._endless = endless
        self._next = 0

    def take(self, count: int) -> RequestChunk:
        """Returns the next requests."""
        size = len(self._requests.arrival_time_s)
        places = np.arange(self._next, self._next + count)
        places = places % size if self._endless else places[places < size]
        self._next += len(places)
        times, prompts, outputs, _ = self._requests
        return RequestChunk(times[places], prompts[places], outputs[places])


def replay(load: RecordedLoad, calibration: Calibration) -> Replay:
    """Simulates a load on one GPU.

    Args:
        load: The requests and the stretch that is averaged over.
        calibration: Coefficients of the GPU type.
    """
    closed = load.in_flight is not None
    spec = ServerSpec(
        gpu=load.gpu,
        model=load.model,
        server=SimulatedServerConfig(
            tensor_parallel=1, max_num_seqs=MAX_NUM_SEQS, engine_version=load.engine
        ),
        workload=ClosedLoop(concurrency=load.in_flight or 1),
        calibration=calibration,
    )
    fleet = Fleet([spec])
    fleet.set_warmup(load.begin_s)
    fleet.begin(0, RecordedRequests(load.requests, endless=closed), load.in_flight)
    fleet.advance(load.begin_s)
    seconds = load.end_s - load.begin_s
    polls = max(1, round(seconds / _POLL_S))
    rows = np.array([fleet.advance(seconds / polls)[0].copy() for _ in range(polls)])
    tokens = float(rows[:, COLUMN.output_tokens].sum())
    running = float(rows[:, COLUMN.running].mean())
    latency = fleet.latency(0)
    simulated = {
        "running": running,
        "output_tok_s": tokens / seconds,
        "prompt_tok_s": float(rows[:, COLUMN.prompt_tokens].sum()) / seconds,
        "itl_s": running * seconds / tokens,
        "ttft_mean_s": _mean_ttft_s(latency),
        "ttft_p50_s": percentile(latency.ttft, 50.0) or float("nan"),
        "power_w": float(rows[:, COLUMN.energy_gpu_j].sum()) / seconds,
        "clock_fraction": float(rows[:, COLUMN.sm_clock_mhz].mean()) / load.gpu.sm_clock_max_mhz,
    }
    return Replay(load, simulated, float(rows[:, COLUMN.cap_binding].mean()))


def _mean_ttft_s(latency: LatencyRecord) -> float:
    middles = LATENCY_MIN_S * LATENCY_RATIO ** (np.arange(len(latency.ttft)) - 0.5)
    count = int(latency.ttft.sum())
    return float(latency.ttft @ middles) / count if count else float("nan")
