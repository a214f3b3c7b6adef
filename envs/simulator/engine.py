"""Simulated servers, stepped by one compiled call, and the feeding of requests to them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from envs.compiled.jit import threads_for
from envs.errors import WorkloadError
from envs.knobs import Knobs
from envs.latency import LatencyRecord
from envs.simulator.kernel import entry
from envs.simulator.kernel import layout as at
from envs.simulator.requests import RequestBuffer
from envs.simulator.state import FloatArray, IntArray, ServerStates
from envs.simulator.step_model import IDLE_W
from envs.telemetry import COLUMN
from envs.workloads.base import RequestStream

_UNBORN = "a server was not reset before time was to pass"


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
        power_cap_min_w: Lowest power cap, per GPU.
        power_cap_w: Highest power cap, in force at reset.
        sm_clock_min_mhz: Lowest SM clock.
        sm_clock_max_mhz: Highest SM clock.
        cap_settling_s: Time constant with which a new cap takes hold.
        sensor_window_s: Averaging window of the power sensor.
        system_power: ``(alpha, beta_w)`` of the node's power.
        exact_steps: Takes every engine step by itself; the step-by-step reference that the
            fast path is tested against.
    """

    step_model: FloatArray
    kv_blocks: int
    block_size: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    num_gpus: int
    replicas: int
    power_cap_min_w: float
    power_cap_w: float
    sm_clock_min_mhz: float
    sm_clock_max_mhz: float
    cap_settling_s: float
    sensor_window_s: float
    system_power: tuple[float, float]
    exact_steps: bool = False


class Engine:
    """Steps ``num_envs`` simulated servers by one compiled call.

    Args:
        specs: One server each.
        chunk: Requests taken from a stream at a time.
        latency: Whether :meth:`latency` can be asked for; counting costs time.

    Attributes:
        telemetry: Telemetry of the last interval, shape ``(num_envs, len(NUMERIC_FIELDS))``.
    """

    def __init__(
        self,
        specs: list[EngineSpec],
        *,
        chunk: int = 1024,
        latency: bool = True,
    ) -> None:
        self.num_envs = len(specs)
        self._specs = list(specs)
        self._latency = latency
        self._states = ServerStates(
            len(specs),
            slots=max(spec.max_num_seqs * spec.replicas for spec in specs),
            block_size=max(spec.block_size for spec in specs),
            latency=latency,
        )
        self._numbers, self._counts = self._states.numbers, self._states.counts
        self.telemetry = self._states.telemetry
        self._models = [np.ascontiguousarray(spec.step_model) for spec in specs]
        self._next_models = list(self._models)
        self._requests = [RequestBuffer(chunk) for _ in specs]
        self._status = np.full(len(specs), at.DONE, dtype=np.int64)
        self._all = np.arange(len(specs))
        self._unborn = set(range(len(specs)))
        self._first = int(self._states.addresses[0])

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the views of the state."""
        views = ("_numbers", "_counts", "telemetry", "_first")
        return {name: value for name, value in self.__dict__.items() if name not in views}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Points the copy's state to the copy's own arrays."""
        self.__dict__.update(state)
        self._numbers, self._counts = self._states.numbers, self._states.counts
        self.telemetry = self._states.telemetry
        self._first = int(self._states.addresses[0])
        for counts, requests, model in zip(self._counts, self._requests, self._models, strict=True):
            requests.locate(counts)
            counts[at.MODEL_AT] = model.ctypes.data

    def reset(self, index: int, stream: RequestStream, concurrency: int | None) -> None:
        """Empties server ``index`` and gives it a new stream of requests."""
        spec = self._specs[index]
        self._states.reset(index)
        self._unborn.discard(index)
        numbers, counts = self._numbers[index], self._counts[index]
        model = self._models[index] = self._next_models[index]
        idle_w = model[IDLE_W] * spec.num_gpus
        numbers[at.ASKED_CAP_W] = numbers[at.CAP_MAX_W] = spec.power_cap_w
        numbers[at.CAP_MIN_W] = spec.power_cap_min_w
        numbers[at.CAP_W] = numbers[at.CAP_IN_FORCE_W] = spec.power_cap_w
        numbers[at.ASKED_SEQS] = numbers[at.SEQS_MAX] = spec.max_num_seqs
        numbers[at.ASKED_CLOCK_MHZ] = math.inf
        numbers[at.CLOCK_MIN_MHZ] = spec.sm_clock_min_mhz
        numbers[at.CAP_TAU_S] = spec.cap_settling_s
        numbers[at.CLOCK_LIMIT] = 1.0
        numbers[at.CLOCK_MAX_MHZ] = spec.sm_clock_max_mhz
        numbers[at.STEP_END] = math.inf
        numbers[at.NUM_GPUS] = spec.num_gpus
        numbers[at.REPLICAS] = spec.replicas
        numbers[at.ALPHA], numbers[at.BETA_W] = spec.system_power
        numbers[at.SENSOR_W] = idle_w
        numbers[at.SENSOR_WINDOW_S] = spec.sensor_window_s
        numbers[at.TTFT_SLO_S] = numbers[at.TPOT_SLO_S] = math.inf
        counts[at.CONCURRENCY] = concurrency or 0
        counts[at.BLOCKS] = spec.kv_blocks * spec.replicas
        counts[at.BLOCK_SIZE] = spec.block_size
        counts[at.MAX_SEQS] = spec.max_num_seqs * spec.replicas
        counts[at.MAX_STEP_TOKENS] = spec.max_num_batched_tokens * spec.replicas
        counts[at.MAX_MODEL_LEN] = spec.max_model_len
        counts[at.JUMP] = not spec.exact_steps
        counts[at.MODEL_AT] = model.ctypes.data
        row = self.telemetry[index]
        row[COLUMN.power_w] = idle_w
        row[COLUMN.sm_clock_mhz] = spec.sm_clock_max_mhz
        row[COLUMN.power_cap_w] = spec.power_cap_w
        row[COLUMN.max_num_seqs] = spec.max_num_seqs
        self._requests[index].restart(stream)
        self._requests[index].feed(counts)

    def randomize(
        self,
        index: int,
        step_model: FloatArray,
        *,
        cap_settling_s: float,
        sensor_window_s: float,
        system_power: tuple[float, float],
    ) -> None:
        """Replaces the physics of server ``index``; takes effect with its next reset."""
        self._next_models[index] = np.ascontiguousarray(step_model)
        self._specs[index] = replace(
            self._specs[index],
            cap_settling_s=cap_settling_s,
            sensor_window_s=sensor_window_s,
            system_power=system_power,
        )

    def apply(self, knobs: Knobs) -> None:
        """Asks for knobs, one number for all servers or shape ``(num_envs,)`` each."""
        clock_mhz = knobs.sm_clock_mhz
        self._numbers[:, at.ASKED_CAP_W] = knobs.power_cap_w
        self._numbers[:, at.ASKED_SEQS] = knobs.max_num_seqs
        self._numbers[:, at.ASKED_CLOCK_MHZ] = math.inf if clock_mhz is None else clock_mhz

    def set_slos(self, ttft_slo_s: FloatArray | float, tpot_slo_s: FloatArray | float) -> None:
        """Sets the latency SLOs that requests are evaluated by from now on."""
        self._numbers[:, at.TTFT_SLO_S] = ttft_slo_s
        self._numbers[:, at.TPOT_SLO_S] = tpot_slo_s

    def set_warmup(self, seconds: FloatArray | float) -> None:
        """Leaves requests that arrive before ``seconds`` out of :meth:`latency`."""
        self._numbers[:, at.WARMUP_S] = seconds

    def advance(self, seconds: float, which: IntArray | None = None) -> FloatArray:
        """Lets time pass on all servers, or on those of some indices.

        Returns:
            :attr:`telemetry`.

        Raises:
            WorkloadError: A server was never reset.
        """
        if self.num_envs > 1 or which is not None:
            servers = self._states.addresses

            def run(pending: IntArray, status: IntArray) -> None:
                entry.advance_many(pending, servers, status)

            pending = self._all if which is None else which
            self.drive(pending, seconds, run)
            return self.telemetry
        if self._unborn:
            raise WorkloadError(_UNBORN)
        self._numbers[0, at.UNTIL] += seconds
        while entry.advance_one(self._first) == at.NEEDS_REQUESTS:
            self._requests[0].feed(self._counts[0])
        return self.telemetry

    def drive(
        self, which: IntArray, seconds: float, run: Callable[[IntArray, IntArray], None]
    ) -> None:
        """Lets compiled code run servers to the end of an interval, feeding it requests.

        It runs on as many threads as servers that many are worth.

        Args:
            which: Indices of the servers.
            seconds: Length of the interval.
            run: Called with indices and an array over all servers; for each index it notes
                there ``DONE``, or ``NEEDS_REQUESTS`` when it is to be called again.
        """
        if self._unborn:
            raise WorkloadError(_UNBORN)
        if len(which) == self.num_envs:
            self._numbers[:, at.UNTIL] += seconds
        else:
            self._numbers[which, at.UNTIL] += seconds
        status = self._status
        with threads_for(len(which)):
            while len(which):
                run(which, status)
                if not status.any():
                    return
                which = np.flatnonzero(status)
                status[:] = at.DONE
                for index in which.tolist():
                    self._requests[index].feed(self._counts[index])

    def latency(self, index: int) -> LatencyRecord:
        """Returns the latencies of server ``index``; see :meth:`ServingSystem.latency`.

        Raises:
            ValueError: The engine was told not to count them.
        """
        if not self._latency:
            raise ValueError("latencies are not counted; make the engine with latency=True")
        totals, counts = self._states.totals[index].copy(), self._counts[index]
        overdue = entry.unfinished(int(self._states.addresses[index]), totals[at.TTFT])
        return LatencyRecord(
            ttft=totals[at.TTFT],
            tpot=totals[at.TPOT],
            e2e=totals[at.E2E],
            finished=int(counts[at.TOTAL_FINISHED]),
            slo_missed=int(counts[at.TOTAL_SLO_MISSED]),
            slo_overdue=overdue,
        )

    @property
    def addresses(self) -> IntArray:
        """Address of each server's row, for :mod:`envs.simulator.kernel`."""
        return self._states.addresses

    @property
    def engine_steps(self) -> int:
        """Engine steps taken since reset, over all servers."""
        return int(self._counts[:, at.STEPS].sum())
