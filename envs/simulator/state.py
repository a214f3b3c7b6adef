"""The state of simulated servers: what is written into their rows, and the rows as arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.compiled.rows import Rows, addresses_of_rows
from envs.latency import LATENCY_BUCKETS
from envs.simulator.kernel import layout as at
from envs.simulator.step_model import IDLE_W
from envs.telemetry import COLUMN, NUM_TELEMETRY

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


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


class ServerStates:
    """State of ``count`` servers of one size.

    Args:
        count: Number of servers.
        slots: Requests that may be admitted at once, per server.
        block_size: Largest number of tokens per KV block.
        latency: Whether latencies are counted over whole episodes.

    Attributes:
        addresses: Addresses of the rows, shape ``(count,)``.
        numbers: Floating-point state, shape ``(count, NUM_NUMBERS)``.
        counts: Integer state, shape ``(count, NUM_COUNTS)``.
        totals: Latency counts, shape ``(count, 3, LATENCY_BUCKETS)``, or ``(count, 3, 0)``
            when latencies are not counted.
        telemetry: Telemetry of the last interval, shape ``(count, NUM_TELEMETRY)``.
    """

    def __init__(self, count: int, slots: int, block_size: int, *, latency: bool) -> None:
        self._slots = slots
        self._rows = Rows(
            count,
            numbers=(float, at.NUM_NUMBERS),
            counts=(int, at.NUM_COUNTS),
            PHASES_AT=(int, block_size),
            FINISHING_AT=(int, 2 * slots),
            FREE_AT=(int, slots),
            PREFILLING_AT=(int, slots),
            PREEMPTED_AT=(int, slots),
            SLOTS_AT=(int, slots, at.NUM_SLOT_FIELDS),
            STAMPS_AT=(float, slots, at.NUM_STAMPS),
            SAMPLES_AT=(float, 3, at.SAMPLES),
            TOTALS_AT=(int, 3, LATENCY_BUCKETS if latency else 0),
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

    def begin(
        self, index: int, spec: EngineSpec, model: FloatArray, concurrency: int | None
    ) -> None:
        """Empties one server and describes it; its warm-up stays.

        Args:
            index: Which server.
            spec: What it is.
            model: Its step model, which must be kept alive.
            concurrency: Requests a closed loop keeps in flight; ``None`` for open arrivals.
        """
        self._empty(index)
        numbers, counts = self.numbers[index], self.counts[index]
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

    def _empty(self, index: int) -> None:
        warmup_s = self.numbers[index, at.WARMUP_S]
        self.numbers[index] = 0.0
        self.numbers[index, at.WARMUP_S] = warmup_s
        self.counts[index, : at.FIRST_ADDRESS] = 0
        self.counts[index, at.CAPACITY] = self.counts[index, at.FREE] = self._slots
        self._free[index] = np.arange(self._slots)[::-1]
        self._phases[index] = 0
        self.totals[index] = 0
        self.telemetry[index] = 0.0

    def _locate(self) -> None:
        rows = self._rows
        self.addresses: IntArray = rows.addresses
        self.numbers: FloatArray = rows.view("numbers")
        self.counts: IntArray = rows.view("counts")
        self.totals: IntArray = rows.view("TOTALS_AT")
        self._free, self._phases = rows.view("FREE_AT"), rows.view("PHASES_AT")
        for name in (
            "PHASES_AT", "FINISHING_AT", "FREE_AT", "PREFILLING_AT", "PREEMPTED_AT", "SLOTS_AT",
            "STAMPS_AT", "SAMPLES_AT", "TOTALS_AT",
        ):  # fmt: skip
            self.counts[:, getattr(at, name)] = rows.addresses_of(name)
        if self.totals.size == 0:
            self.counts[:, at.TOTALS_AT] = 0
        self.counts[:, at.TELEMETRY_AT] = addresses_of_rows(self.telemetry)
