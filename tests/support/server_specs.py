"""Simulated servers for tests: any KV-cache size, any requests, and their reference twins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from envs import catalog
from envs.simulator.memory import RUNTIME_BYTES, kv_bytes_per_gpu, weight_bytes_per_gpu
from envs.simulator.parallelism import Parallelism
from envs.simulator.server import SimulatedServer
from envs.simulator.server_spec import ServerSpec
from envs.telemetry import NUMERIC_FIELDS, Telemetry
from envs.workloads.base import RequestChunk, RequestStream, Workload
from support.reference_server import ReferenceServer, ServerFacts

Request = tuple[float, int, int]
"""Arrival time in seconds, prompt tokens, output tokens."""


class Given(Workload):
    """Exactly these requests, then none."""

    def __init__(self, requests: Sequence[Request], *, concurrency: int | None = None) -> None:
        super().__init__(rate=1.0)
        self.requests = list(requests)
        self._concurrency = concurrency

    @property
    def concurrency(self) -> int | None:
        return self._concurrency

    @property
    def mean_prompt_tokens(self) -> float:
        return float(np.mean([prompt for _, prompt, _ in self.requests]))

    @property
    def mean_output_tokens(self) -> float:
        return float(np.mean([output for _, _, output in self.requests]))

    def __repr__(self) -> str:  # ratings are remembered by it
        return f"Given({self.requests!r}, {self._concurrency})"

    def endless(self) -> Workload:
        return Repeated(self.requests)

    def stream(self, rng: np.random.Generator, rate_per_s: float) -> RequestStream:
        return _Stream(self.requests)


class Repeated(Given):
    """The same requests again and again; their times do not count."""

    def stream(self, rng: np.random.Generator, rate_per_s: float) -> RequestStream:
        return _Stream(self.requests, endless=True)


class _Stream:
    def __init__(self, requests: list[Request], endless: bool = False) -> None:
        self._requests = requests
        self._endless = endless
        self._next = 0

    def take(self, count: int) -> RequestChunk:
        total = len(self._requests)
        stop = self._next + count if self._endless else min(self._next + count, total)
        rows = [self._requests[index % total] for index in range(self._next, stop)]
        self._next = stop
        times = np.array([row[0] for row in rows], dtype=np.float64)
        lengths = np.array([row[1:] for row in rows], dtype=np.int64).reshape(-1, 2)
        return RequestChunk(times, lengths[:, 0], lengths[:, 1])


def make_server_spec(
    workload: Any,
    *,
    model: str = "gpt2",
    gpu: str = "a100_sxm4_80gb",
    kv_blocks: int | None = None,
    cap_settling_s: float | None = None,
    **server: Any,
) -> ServerSpec:
    """Builds a plant; ``kv_blocks`` sets the memory of a GPU to hold exactly so many blocks."""
    server = {"tensor_parallel": 1, **server}
    gpu_choice: Any = gpu
    if kv_blocks is not None:
        spec = catalog.build("model", model)
        spread = Parallelism(tensor=server["tensor_parallel"])
        tokens = kv_blocks * server.get("block_size", 16) + 0.5
        needed = weight_bytes_per_gpu(spec, spread) + tokens * kv_bytes_per_gpu(spec, spread)
        gpu_choice = {"base": gpu, "memory_gb": (needed + RUNTIME_BYTES) / 0.9e9}
    built_gpu = catalog.build("gpu", gpu_choice)
    calibration = None
    if cap_settling_s is not None:
        calibration = catalog.build(
            "calibration", {"base": built_gpu.calibration, "cap_settling_s": cap_settling_s}
        )
    server_spec = ServerSpec(
        gpu=built_gpu,
        model=catalog.build("model", model),
        server=catalog.build("server", {"base": "simulated", **server}),
        workload=catalog.build("workload", workload),
        calibration=calibration,
    )
    assert kv_blocks is None or server_spec.spec.kv_blocks == kv_blocks
    return server_spec


def make_server(workload: Any, **choices: Any) -> SimulatedServer:
    return SimulatedServer(make_server_spec(workload, **choices))


def numbers(telemetry: Telemetry) -> dict[str, float]:
    """Returns the telemetry's numeric fields by name."""
    return dict(zip(NUMERIC_FIELDS, telemetry, strict=False))


def reference_of(server_spec: ServerSpec, seed: int) -> ReferenceServer:
    """Returns the reference twin of a server after ``reset(seed)``."""
    spec = server_spec.spec
    facts = ServerFacts(
        step_model=spec.step_model,
        blocks=spec.kv_blocks * spec.replicas,
        block_size=spec.block_size,
        max_num_seqs=spec.max_num_seqs,
        token_budget=spec.max_num_batched_tokens,
        max_model_len=spec.max_model_len,
        num_gpus=spec.num_gpus,
        replicas=spec.replicas,
        cap_w=spec.power_cap_w,
        clock_max_mhz=spec.sm_clock_max_mhz,
        settling_s=spec.cap_settling_s,
        sensor_window_s=spec.sensor_window_s,
        alpha=spec.system_power[0],
        beta_w=spec.system_power[1],
    )
    arrivals = np.random.default_rng(seed).spawn(3)[0]
    stream = server_spec.workload.stream(arrivals, server_spec.rate_per_s)
    return ReferenceServer(facts, _one_by_one(stream), server_spec.workload.concurrency)


def _one_by_one(stream: RequestStream) -> Iterator[Request]:
    while True:
        times, prompts, outputs = stream.take(64)
        if not len(times):
            return
        yield from zip(times.tolist(), prompts.tolist(), outputs.tolist(), strict=True)
