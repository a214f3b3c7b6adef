"""The state of simulated servers: what is written into their rows, and the rows as arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from envs.compiled.rows import Rows, addresses_of_rows
from envs.latency import LATENCY_BUCKETS
from envs.simulator.calibration import Calibration
from envs.simulator.kernel import layout as at
from envs.simulator.step_layout import StepModel
from envs.telemetry import COLUMN, NUM_TELEMETRY
from envs.workloads.base import Workload

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_LISTS = ("requests", "finishing", "prefilling", "preempted", "free", "phases", "samples")
_OUTSIDE = ("model_at", "times_at", "lengths_at", "telemetry_at")


@dataclass(frozen=True)
class EngineSpec:
    """All that the engine needs to know about one server.

    Attributes:
        step_model: Record from :func:`envs.simulator.step_model.compile_step_model`.
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

    step_model: StepModel
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


class Physics(NamedTuple):
    """Physics of one episode.

    Attributes:
        step_model: See :func:`envs.simulator.step_model.compile_step_model`.
        cap_settling_s: Time constant with which a new cap takes hold.
        sensor_window_s: Averaging window of the power sensor.
        system_power: True ``(alpha, beta_w)`` of the node; controllers go on to reckon with
            the configured ones.
        device_spread: Relative standard deviation of power between the GPUs.
    """

    step_model: StepModel
    cap_settling_s: float
    sensor_window_s: float
    system_power: tuple[float, float]
    device_spread: float


class Simulated(Protocol):
    """What a fleet asks of the description of one of its servers."""

    @property
    def spec(self) -> EngineSpec:
        """What the engine is given, with the nominal calibration."""

    @property
    def coefficients(self) -> Calibration:
        """The calibration in use."""

    @property
    def num_gpus(self) -> int:
        """GPUs in all."""

    @property
    def workload(self) -> Workload:
        """Arrivals and lengths."""

    @property
    def rate_per_s(self) -> float:
        """Mean arrival rate in requests per second."""

    def randomized(self, rng: np.random.Generator) -> Physics:
        """Draws physics within the uncertainty about the calibration and the node."""


class ServerStates:
    """State of ``count`` servers of one size.

    Args:
        count: Number of servers.
        slots: Requests that may be admitted at once, per server.
        block_size: Largest number of tokens per KV block.
        latency: Whether latencies are counted over whole episodes.

    Attributes:
        servers: The servers' records, shape ``(count,)``; see
            :mod:`envs.simulator.kernel.layout`.
        addresses: Addresses of the rows, shape ``(count,)``.
        requested: Knobs that are asked for, shape ``(count, 3)``.
        totals: Latency counts, shape ``(count, 3, LATENCY_BUCKETS)``, or ``(count, 3, 0)``
            when latencies are not counted.
        telemetry: Telemetry of the last interval, shape ``(count, NUM_TELEMETRY)``.
    """

    def __init__(self, count: int, slots: int, block_size: int, *, latency: bool) -> None:
        self._slots = slots
        self._rows = Rows(
            count,
            at.SERVER,
            phases=(np.int64, block_size),
            finishing=(np.int64, 2 * slots),
            free=(np.int64, slots),
            prefilling=(np.int64, slots),
            preempted=(np.int64, slots),
            requests=(at.REQUEST, slots),
            samples=(np.float64, 3, at.SAMPLES),
            totals=(np.int64, 3, LATENCY_BUCKETS if latency else 0),
        )
        self.telemetry = np.zeros((count, NUM_TELEMETRY))
        self._locate()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the views, which must share memory with the rows."""
        return {"_slots": self._slots, "_rows": self._rows, "telemetry": self.telemetry}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes the views again."""
        self.__dict__.update(state)
        self._locate()

    def _locate(self) -> None:
        rows = self._rows
        self.addresses: IntArray = rows.addresses
        self.servers: Any = rows.records
        self.requested: FloatArray = rows.floats("requested")
        self.totals: IntArray = rows.section("totals")
        self._free, self._phases = rows.section("free"), rows.section("phases")
        self.servers.telemetry_at = addresses_of_rows(self.telemetry)

    def begin(self, index: int, spec: EngineSpec, concurrency: int | None) -> None:
        """Empties one server and describes it; its warm-up and what lies outside stay.

        Args:
            index: Which server.
            spec: What it is.
            concurrency: Requests a closed loop keeps in flight; ``None`` for open arrivals.
        """
        server = self._empty(index)
        idle_w = spec.step_model.idle_w * spec.num_gpus
        server.requested.power_cap_w = server.power_cap_max_w = spec.power_cap_w
        server.power_cap_min_w = spec.power_cap_min_w
        server.power_cap_w = server.cap_in_force_w = spec.power_cap_w
        server.requested.max_num_seqs = server.max_num_seqs_high = spec.max_num_seqs
        server.requested.sm_clock_mhz = math.inf
        server.sm_clock_min_mhz = spec.sm_clock_min_mhz
        server.sm_clock_max_mhz = spec.sm_clock_max_mhz
        server.clock_limit = 1.0
        server.cap_settling_s = spec.cap_settling_s
        server.step_end_s = math.inf
        server.num_gpus = spec.num_gpus
        server.replicas = spec.replicas
        server.alpha, server.beta_w = spec.system_power
        server.sensor_w = idle_w
        server.sensor_window_s = spec.sensor_window_s
        server.ttft_slo_s = server.tpot_slo_s = math.inf
        server.concurrency = concurrency or 0
        server.blocks = spec.kv_blocks * spec.replicas
        server.block_size = spec.block_size
        server.max_seqs = spec.max_num_seqs * spec.replicas
        server.max_step_tokens = spec.max_num_batched_tokens * spec.replicas
        server.max_model_len = spec.max_model_len
        server.takes_runs = not spec.exact_steps
        row = self.telemetry[index]
        row[COLUMN.power_w] = idle_w
        row[COLUMN.sm_clock_mhz] = spec.sm_clock_max_mhz
        row[COLUMN.power_cap_w] = spec.power_cap_w
        row[COLUMN.max_num_seqs] = spec.max_num_seqs

    def _empty(self, index: int) -> Any:
        """Returns a server's record with all numbers 0 but those that stay."""
        server, rows = self.servers[index], self._rows
        kept = {name: server[name] for name in ("warmup_s", *_OUTSIDE)}
        self.servers[index] = np.zeros((), dtype=at.SERVER)
        for name, value in kept.items():
            server[name] = value
        for name in _LISTS:
            server[f"{name}_offset"] = rows.offset_of(name)
        server.totals_offset = rows.offset_of("totals") if self.totals.size else 0
        server.capacity = server.free = self._slots
        self._free[index] = np.arange(self._slots)[::-1]
        self._phases[index] = 0
        self.totals[index] = 0
        self.telemetry[index] = 0.0
        return server
