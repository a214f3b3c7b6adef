"""State of one or many simulated servers, and the feeding of requests to them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.errors import WorkloadError
from envs.latency import LATENCY_BUCKETS, LatencyRecord
from envs.simulator import batching
from envs.simulator import layout as at
from envs.simulator.layout import NEEDS_REQUESTS, SAMPLES
from envs.simulator.step_model import IDLE_W
from envs.telemetry import NUMERIC_FIELDS
from envs.workloads.base import RequestStream

FloatArray = NDArray[np.float64]
_POWER, _CLOCK, _CAP, _SEQS = (
    NUMERIC_FIELDS.index(name)
    for name in ("power_w", "sm_clock_mhz", "power_cap_w", "max_num_seqs")
)


@dataclass(frozen=True)
class EngineSpec:
    """All that the engine needs to know about one server.

    Attributes:
        step_model: Vector from :func:`envs.simulator.step_model.compile_step_model`.
        kv_blocks: KV-cache blocks of one replica.
        block_size: Tokens a block.
        max_num_seqs: Highest batch limit of one replica.
        max_num_batched_tokens: Token budget of one step of one replica.
        max_model_len: Longest context, prompt and output together.
        num_gpus: GPUs that draw power.
        replicas: Data-parallel replicas.
        power_cap_w: Power cap at reset, per GPU.
        sm_clock_max_mhz: Highest SM clock.
        cap_settling_s: Time constant with which a new cap takes hold.
        sensor_window_s: Averaging window of the power sensor.
        system_power: ``(alpha, beta_w)`` of the node's power.
    """

    step_model: FloatArray
    kv_blocks: int
    block_size: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    num_gpus: int
    replicas: int
    power_cap_w: float
    sm_clock_max_mhz: float
    cap_settling_s: float
    sensor_window_s: float
    system_power: tuple[float, float]


class Engine:
    """Steps ``num_envs`` simulated servers by one compiled call.

    Args:
        specs: One server each; their vectors must have the same length.
        chunk: Requests taken from a stream at a time.
        jump: Whether equal steps may be taken at once; ``False`` is the step-by-step
            reference that the fast path is tested against.
    """

    def __init__(self, specs: list[EngineSpec], *, chunk: int = 1024, jump: bool = True) -> None:
        self.num_envs = count = len(specs)
        self._specs = specs
        self._chunk = chunk
        self._jump = jump
        self._replicas = np.array([spec.replicas for spec in specs], dtype=np.int64)
        self._settling_s = np.array([spec.cap_settling_s for spec in specs])
        slots = max(spec.max_num_seqs * spec.replicas for spec in specs)
        self._models = np.stack([spec.step_model for spec in specs])
        self._numbers = np.zeros((count, at.NUM_NUMBERS))
        self._counts = np.zeros((count, at.NUM_COUNTS), dtype=np.int64)
        self._slots = np.zeros((count, at.NUM_SLOT_FIELDS, slots))
        self._stacks = np.zeros((count, at.NUM_SLOT_FIELDS, slots))
        self._finish_at = np.zeros((count, slots), dtype=np.int64)
        self._phases = np.zeros((count, max(s.block_size for s in specs)), dtype=np.int64)
        self._samples = np.zeros((count, 3, SAMPLES))
        self._totals = np.zeros((count, 3, LATENCY_BUCKETS), dtype=np.int64)
        self._times = np.zeros((count, 2 * chunk))
        self._lengths = np.ones((count, 2 * chunk, 2), dtype=np.int64)
        self._status = np.zeros(count, dtype=np.int64)
        self._all = np.arange(count)
        self._streams: list[RequestStream | None] = [None] * count
        self.telemetry = np.zeros((count, at.NUM_TELEMETRY))
        """Telemetry of the last interval, shape ``(num_envs, len(NUMERIC_FIELDS))``."""
        self._locate()

    def reset(self, index: int, stream: RequestStream, concurrency: int | None) -> None:
        """Empties server ``index`` and gives it a new stream of requests."""
        spec = self._specs[index]
        numbers, counts = self._numbers[index], self._counts[index]
        warmup_s = numbers[at.WARMUP_S]
        numbers[:] = 0.0
        counts[:] = 0
        numbers[at.WARMUP_S] = warmup_s
        numbers[at.CAP_W] = numbers[at.CAP_IN_FORCE_W] = spec.power_cap_w
        numbers[at.CAP_TAU_S] = self._settling_s[index]
        numbers[at.CLOCK_LIMIT] = 1.0
        numbers[at.CLOCK_MAX_MHZ] = spec.sm_clock_max_mhz
        numbers[at.STEP_END] = math.inf
        numbers[at.NUM_GPUS] = spec.num_gpus
        numbers[at.REPLICAS] = spec.replicas
        numbers[at.ALPHA], numbers[at.BETA_W] = spec.system_power
        idle_w = self._models[index, IDLE_W] * spec.num_gpus
        numbers[at.SENSOR_W] = idle_w
        numbers[at.SENSOR_WINDOW_S] = spec.sensor_window_s
        numbers[at.TTFT_SLO_S] = numbers[at.TPOT_SLO_S] = math.inf
        counts[at.CONCURRENCY] = concurrency or 0
        counts[at.BLOCKS] = spec.kv_blocks * spec.replicas
        counts[at.BLOCK_SIZE] = spec.block_size
        counts[at.MAX_SEQS] = spec.max_num_seqs * spec.replicas
        counts[at.MAX_STEP_TOKENS] = spec.max_num_batched_tokens * spec.replicas
        counts[at.MAX_MODEL_LEN] = spec.max_model_len
        counts[at.NEXT_FINISH] = np.int64(1) << 60
        counts[at.JUMP] = self._jump
        self._phases[index] = 0
        self._totals[index] = 0
        self.telemetry[index] = 0.0
        self.telemetry[index, _POWER] = idle_w
        self.telemetry[index, _CLOCK] = spec.sm_clock_max_mhz
        self.telemetry[index, _CAP] = spec.power_cap_w
        self.telemetry[index, _SEQS] = spec.max_num_seqs
        self._streams[index] = stream
        self._feed(index)

    def randomize(self, index: int, step_model: FloatArray, cap_settling_s: float) -> None:
        """Replaces the physics of server ``index``; takes effect with its next reset."""
        self._models[index] = step_model
        self._settling_s[index] = cap_settling_s

    def apply(self, power_cap_w: FloatArray, max_num_seqs: FloatArray, clock: FloatArray) -> None:
        """Asks for knobs: caps (W), batch limits and clock limits (shares of the highest)."""
        self._numbers[:, at.CAP_W] = power_cap_w
        self._numbers[:, at.CLOCK_LIMIT] = clock
        self._counts[:, at.MAX_SEQS] = max_num_seqs * self._replicas

    def set_slos(self, ttft_slo_s: FloatArray | float, tpot_slo_s: FloatArray | float) -> None:
        """Sets the latency SLOs that requests are judged by from now on."""
        self._numbers[:, at.TTFT_SLO_S] = ttft_slo_s
        self._numbers[:, at.TPOT_SLO_S] = tpot_slo_s

    def set_warmup(self, seconds: float) -> None:
        """Leaves requests that arrive before ``seconds`` out of :meth:`latency`."""
        self._numbers[:, at.WARMUP_S] = seconds

    def advance(self, seconds: float) -> FloatArray:
        """Lets time pass on all servers; returns :attr:`telemetry`."""
        self._numbers[:, at.UNTIL] += seconds
        pending = self._all
        while True:
            if len(pending) == 1:
                index = pending[0]
                self._status[index] = batching.advance_one(index, self._addresses, self._widths)
            else:
                batching.advance_many(pending, self._status, self._addresses, self._widths)
            pending = pending[self._status[pending] == NEEDS_REQUESTS]
            if not pending.size:
                return self.telemetry
            for index in pending:
                self._feed(int(index))

    def latency(self, index: int) -> LatencyRecord:
        """Returns the latencies of server ``index``; see :meth:`ServingSystem.latency`."""
        numbers, counts = self._numbers[index], self._counts[index]
        totals = self._totals[index].copy()
        overdue = batching.unfinished(
            numbers, counts, self._slots[index], self._stacks[index], self._finish_at[index],
            self._times[index], totals,
        )  # fmt: skip
        return LatencyRecord(
            ttft=totals[0], tpot=totals[1], e2e=totals[2],
            finished=int(counts[at.TOTAL_FINISHED]),
            slo_missed=int(counts[at.TOTAL_SLO_MISSED]),
            slo_overdue=overdue,
        )  # fmt: skip

    @property
    def engine_steps(self) -> int:
        """Engine steps taken since reset, over all servers."""
        return int(self._counts[:, at.STEPS].sum())

    def _feed(self, index: int) -> None:
        """Takes a chunk from the stream of server ``index`` and makes room for it."""
        stream = self._streams[index]
        if stream is None:
            raise WorkloadError("the server was not reset before time was to pass")
        counts = self._counts[index]
        head, tail = counts[at.HEAD], counts[at.TAIL]
        first, end = counts[at.NEXT], counts[at.END]
        chunk = stream.take(self._chunk)
        fresh = len(chunk.arrival_time_s)
        kept, ahead = tail - head, end - first
        if kept + ahead + fresh > self._times.shape[1]:
            self._grow(2 * (kept + ahead + fresh))
        times, lengths = self._times[index], self._lengths[index]
        times[:kept] = times[head:tail].copy()
        lengths[:kept] = lengths[head:tail].copy()
        times[kept : kept + ahead] = times[first:end].copy()
        lengths[kept : kept + ahead] = lengths[first:end].copy()
        start = kept + ahead
        times[start : start + fresh] = chunk.arrival_time_s
        lengths[start : start + fresh, 0] = chunk.prompt_tokens
        lengths[start : start + fresh, 1] = chunk.output_tokens
        counts[at.HEAD], counts[at.TAIL] = 0, kept
        counts[at.NEXT], counts[at.END] = kept, start + fresh
        counts[at.EXHAUSTED] = fresh == 0

    def _grow(self, capacity: int) -> None:
        old = self._times.shape[1]
        times = np.zeros((self.num_envs, capacity))
        lengths = np.ones((self.num_envs, capacity, 2), dtype=np.int64)
        times[:, :old] = self._times
        lengths[:, :old] = self._lengths
        self._times, self._lengths = times, lengths
        self._locate()

    def _locate(self) -> None:
        """Notes where the state arrays lie, for the compiled code."""
        arrays = [
            self.telemetry if name == "telemetry" else getattr(self, f"_{name}")
            for name in at.ARRAYS
        ]
        self._addresses = np.array([array.ctypes.data for array in arrays], dtype=np.int64)
        self._widths = np.array([array.shape[-1] for array in arrays], dtype=np.int64)
