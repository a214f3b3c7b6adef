"""The state of simulated servers: what is written into their rows, and the rows as arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from envs.workloads.base import NO_TEXTS, PromptTexts, Workload

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_LISTS = (
    "requests", "finishing", "prefilling", "preempted", "free", "phases", "known", "buckets",
    "held",
)  # fmt: skip
"""Lists that each engine has."""
_MOST_BEGUN = 256


class PowerTimes(NamedTuple):
    """How power moves in time; see the coefficients of the same names.

    Attributes:
        cap_settling_s: Time constant with which a new cap takes hold.
        limit_window_s: Time constant of the mean that a limit acts on.
        sensor_window_s: Window over which the power sensor averages.
        warming_s: Time constant with which the chip warms.
    """

    cap_settling_s: float
    limit_window_s: float
    sensor_window_s: float
    warming_s: float


def power_times(calibration: Calibration) -> PowerTimes:
    """Returns how power moves in time, according to a calibration."""
    return PowerTimes(
        cap_settling_s=calibration.cap_settling_s,
        limit_window_s=calibration.limit_window_s,
        sensor_window_s=calibration.sensor_window_s,
        warming_s=calibration.warming_s,
    )


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
        max_waiting: Requests that may wait, in all.
        num_gpus: GPUs that draw power.
        replicas: Data-parallel replicas.
        lockstep: Replicas that hold the experts of the model together, and so step together.
        power_cap_min_w: Lowest power cap, per GPU.
        power_cap_w: Highest power cap, in force at reset.
        sm_clock_min_mhz: Lowest SM clock.
        sm_clock_max_mhz: Highest SM clock.
        power_times: How power moves in time.
        system_power: ``(alpha, beta_w)`` of the node's power.
        exact_steps: Takes every engine step by itself; the step-by-step reference that the
            fast path is tested against.
        prefix_caching: Whether full KV blocks are found again by requests that begin alike.
        texts: What the workload's prompts have in common.
    """

    step_model: StepModel
    kv_blocks: int
    block_size: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    max_waiting: int
    num_gpus: int
    replicas: int
    lockstep: int
    power_cap_min_w: float
    power_cap_w: float
    sm_clock_min_mhz: float
    sm_clock_max_mhz: float
    power_times: PowerTimes
    system_power: tuple[float, float]
    exact_steps: bool = False
    prefix_caching: bool = False
    texts: PromptTexts = NO_TEXTS


class _Begun(NamedTuple):
    """How a server begins, for the next one that begins alike."""

    spec: EngineSpec  # kept, so that no other one gets its identity
    row: NDArray[np.uint8]
    telemetry: FloatArray


class Physics(NamedTuple):
    """Physics of one episode.

    Attributes:
        step_model: See :func:`envs.simulator.step_model.compile_step_model`.
        power_times: How power moves in time.
        system_power: True ``(alpha, beta_w)`` of the node; controllers go on to reckon with
            the configured ones.
        device_spread: Relative standard deviation of power between the GPUs.
    """

    step_model: StepModel
    power_times: PowerTimes
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


class Sizes(NamedTuple):
    """What the size of a server's row follows from.

    Attributes:
        engines: Replicas.
        slots: Requests that each of them may admit at once.
        block_size: Tokens per KV block.
        known: KV blocks that prefix caching may know at once; 0 where there is none.
        buckets: Lists in which these are found.
        held: Blocks that a request may hold of them.
    """

    engines: int
    slots: int
    block_size: int
    known: int
    buckets: int
    held: int

    @classmethod
    def of(cls, specs: Sequence[EngineSpec]) -> Sizes:
        """Returns room for the largest of some servers."""
        caching = [spec for spec in specs if spec.prefix_caching]
        known = max((spec.kv_blocks for spec in caching), default=0)
        return cls(
            engines=max(spec.replicas for spec in specs),
            slots=max(spec.max_num_seqs for spec in specs),
            block_size=max(spec.block_size for spec in specs),
            known=known,
            buckets=1 << known.bit_length() if known else 0,
            held=max((spec.max_model_len // spec.block_size for spec in caching), default=0),
        )


class ServerStates:
    """State of servers whose rows are of one size.

    Args:
        count: Number of servers.
        sizes: How much room their lists need.
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

    def __init__(self, count: int, sizes: Sizes, *, latency: bool) -> None:
        self._sizes = sizes
        engines, slots = sizes.engines, sizes.slots
        self._rows = Rows(
            count,
            at.SERVER,
            engines=(at.ENGINE, engines),
            phases=(np.int64, engines, sizes.block_size),
            finishing=(np.int64, engines, 2 * slots),
            free=(np.int64, engines, slots),
            prefilling=(np.int64, engines, slots),
            preempted=(np.int64, engines, slots),
            requests=(at.REQUEST, engines, slots),
            buckets=(np.int64, engines, sizes.buckets),
            known=(at.KNOWN, engines, sizes.known),
            held=(np.int64, engines, slots, sizes.held),
            samples=(np.float64, 3, at.SAMPLES),
            totals=(np.int64, 3, LATENCY_BUCKETS if latency else 0),
        )
        self.telemetry = np.zeros((count, NUM_TELEMETRY))
        self._locate()

    def like(self, count: int) -> ServerStates:
        """Returns so many rows of the same size, for copies of servers."""
        return ServerStates(count, self._sizes, latency=bool(self.totals.size))

    @property
    def live_bytes(self) -> int:
        """Bytes of a row that say how a server goes on; behind them are past latencies."""
        return self._rows.offset_of("samples")

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the views, which must share memory with the rows."""
        return {"_sizes": self._sizes, "_rows": self._rows, "telemetry": self.telemetry}

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
        self._engines: Any = rows.section("engines").view(np.recarray)
        self._free, self._phases = rows.section("free"), rows.section("phases")
        self._warmup = rows.floats("warmup_s")
        self._begun: dict[tuple[int, int | None], _Begun] = {}
        self._buckets = rows.section("buckets")
        self.servers.telemetry_at = addresses_of_rows(self.telemetry)

    def begin(self, index: int, spec: EngineSpec, concurrency: int | None) -> None:
        """Empties one server and describes it; its warm-up and what lies outside stay.

        Args:
            index: Which server.
            spec: What it is.
            concurrency: Requests a closed loop keeps in flight; ``None`` for open arrivals.
        """
        if self._sizes.known:
            self._describe(index, spec, concurrency)
            return  # rows of megabytes are not kept
        begun = self._begun.get((id(spec), concurrency))
        if begun is None:
            self._describe(index, spec, concurrency)
            if len(self._begun) == _MOST_BEGUN:
                self._begun.clear()
            row = self._rows.row(index)[: self.live_bytes].copy()
            self._begun[id(spec), concurrency] = _Begun(spec, row, self.telemetry[index].copy())
            return
        warmup_s, row, live = self._warmup[index, 0], self._rows.row(index), self.live_bytes
        row[: at.OUTSIDE_AT] = begun.row[: at.OUTSIDE_AT]
        row[at.SERVER.itemsize : live] = begun.row[at.SERVER.itemsize : live]
        self._warmup[index, 0] = warmup_s
        self.totals[index] = 0
        self.telemetry[index] = begun.telemetry

    def _describe(self, index: int, spec: EngineSpec, concurrency: int | None) -> None:
        """Does so number by number, which takes fifty times as long."""
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
        server.cap_settling_s = spec.power_times.cap_settling_s
        server.limit_window_s = spec.power_times.limit_window_s
        server.sensor_window_s = spec.power_times.sensor_window_s
        server.warming_s = spec.power_times.warming_s
        server.num_gpus = spec.num_gpus
        server.replicas, server.lockstep = spec.replicas, spec.lockstep
        server.alpha, server.beta_w = spec.system_power
        server.ttft_slo_s = server.tpot_slo_s = math.inf
        server.concurrency = concurrency or 0
        server.blocks = spec.kv_blocks
        server.block_size = spec.block_size
        server.max_seqs = spec.max_num_seqs
        server.max_step_tokens = spec.max_num_batched_tokens
        server.max_model_len = spec.max_model_len
        server.max_waiting = spec.max_waiting
        engines = self._engines[index]
        engines.blocks = spec.kv_blocks
        engines.block_size = spec.block_size
        engines.caches = spec.prefix_caching
        server.shared_tokens, server.text_id_tokens = (
            spec.texts.shared_tokens,
            spec.texts.part_tokens,
        )
        server.num_text_ids = len(spec.texts.ids)
        server.takes_runs = not spec.exact_steps
        self.assume_power(index, 0.0, idle_w)
        row = self.telemetry[index]
        row[COLUMN.power_w] = idle_w
        row[COLUMN.sm_clock_mhz] = spec.sm_clock_max_mhz
        row[COLUMN.power_cap_w] = spec.power_cap_w
        row[COLUMN.max_num_seqs] = spec.max_num_seqs

    def row(self, index: int) -> NDArray[np.uint8]:
        """Returns the bytes of a server's row."""
        return self._rows.row(index)

    @property
    def totals_offset(self) -> int:
        """Distance from a row's beginning of the counts of latencies; 0 where there are none."""
        return self._rows.offset_of("totals") if self.totals.size else 0

    @property
    def form(self) -> tuple[int, ...]:
        """What must be equal of rows that are copied over each other: where their lists lie."""
        names = ("engines", *_LISTS, "samples", "totals")
        return (self._sizes.engines, *(self._rows.offset_of(name) for name in names))

    def assume_power(self, index: int, now_s: float, power_w: float) -> None:
        """Lets a server have drawn a power for long, up to a time.

        Args:
            index: Which server.
            now_s: The time.
            power_w: Power of all its GPUs in watts.
        """
        server, engines = self.servers[index], self._engines[index]
        gpu_w = power_w / server.num_gpus
        window_s = server.sensor_window_s
        server.mark_times_s[:2] = now_s - window_s, now_s
        server.mark_spent_j[:2] = server.spent_j - window_s * gpu_w, server.spent_j
        server.marks = 2
        server.sensor_w = power_w
        engines.limited_w = engines.warm_w = gpu_w

    def _empty(self, index: int) -> Any:
        """Returns a server's record with all numbers 0 but those that stay."""
        server, rows = self.servers[index], self._rows
        kept = {name: server[name] for name in ("warmup_s", *at.OUTSIDE)}
        self.servers[index] = np.zeros((), dtype=at.SERVER)
        for name, value in kept.items():
            server[name] = value
        server.engines_offset = rows.offset_of("engines")
        server.samples_offset = rows.offset_of("samples")
        server.totals_offset = self.totals_offset
        engines = self._engines[index]
        engines[:] = np.zeros((), dtype=at.ENGINE)
        places = np.arange(len(engines))
        for name in _LISTS:
            # From where the engine's record lies to where its list does.
            distance = rows.offset_of(name) - server.engines_offset
            per_engine = rows.section(name)[0, 0].nbytes
            engines[f"{name}_offset"] = distance + places * (per_engine - at.ENGINE.itemsize)
        engines.index = places
        engines.step_end_s = math.inf
        slots = self._sizes.slots
        engines.capacity = engines.free = slots
        engines.num_buckets, engines.held_room = self._sizes.buckets, self._sizes.held
        self._buckets[index] = 0
        self._free[index] = np.arange(slots)[::-1]
        self._phases[index] = 0
        self.totals[index] = 0
        self.telemetry[index] = 0.0
        return server
