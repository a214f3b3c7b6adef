"""Simulated servers for tests: any KV-cache size, any requests, and their reference twins."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from envs import catalog
from envs.simulator.memory import RUNTIME_BYTES, kv_bytes_per_gpu, weight_bytes_per_gpu
from envs.simulator.parallelism import Parallelism
from envs.simulator.server import SimulatedServer
from envs.simulator.server_spec import Rating, ServerSpec
from envs.simulator.state import EngineSpec
from envs.telemetry import NUMERIC_FIELDS, Telemetry
from envs.workloads.base import PromptTexts, RequestChunk, RequestStream, Workload
from support.reference_server import ReferenceServer, ServerFacts
from support.reference_server import Request as Called

Request = tuple[float, int, int]
"""Arrival time in seconds, prompt tokens, output tokens."""


class Given(Workload):
    """Exactly these requests, then none.

    Args:
        requests: The requests.
        concurrency: Requests kept in flight; ``None`` for open arrivals.
        texts: Of each of them the number of its text, or that, where the ids of its prompt's
            parts begin in ``ids`` and what is added to them; ``None`` where each is alone.
        shared_tokens: Tokens with which all begin.
        ids: Ids of the parts of prompts.
        part_tokens: Tokens of a part.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        *,
        concurrency: int | None = None,
        texts: Sequence[int | tuple[int, int, int]] | None = None,
        shared_tokens: int = 0,
        ids: Sequence[int] = (),
        part_tokens: float = 512.0,
    ) -> None:
        super().__init__(rate=1.0)
        self.requests = list(requests)
        self._concurrency = concurrency
        self.texts = texts
        self._prompt_texts = PromptTexts(shared_tokens, np.array(ids, np.int64), part_tokens)

    @property
    def prompt_texts(self) -> PromptTexts:
        return self._prompt_texts

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
        return f"Given({self.requests!r}, {self._concurrency}, {self.texts}, {self._prompt_texts})"

    def endless(self) -> Workload:
        return Repeated(self.requests)

    def stream(self, rng: np.random.Generator, rate_per_s: float) -> RequestStream:
        return _Stream(self.requests, texts=self.texts)


class Repeated(Given):
    """The same requests again and again; their times do not count."""

    def stream(self, rng: np.random.Generator, rate_per_s: float) -> RequestStream:
        return _Stream(self.requests, endless=True)


class _Stream:
    def __init__(
        self,
        requests: list[Request],
        endless: bool = False,
        texts: Sequence[int | tuple[int, int, int]] | None = None,
    ) -> None:
        self._requests = requests
        self._texts = texts
        self._endless = endless
        self._next = 0

    def take(self, count: int) -> RequestChunk:
        total = len(self._requests)
        stop = self._next + count if self._endless else min(self._next + count, total)
        places = range(self._next, stop)
        rows = [self._requests[index % total] for index in places]
        self._next = stop
        texts = None
        if self._texts is not None:
            given = (self._texts[i] for i in places)
            rows_of_texts = [(one, -1, 0) if isinstance(one, int) else one for one in given]
            texts = np.array(rows_of_texts, np.int64).reshape(-1, 3)
        times = np.array([row[0] for row in rows], dtype=np.float64)
        lengths = np.array([row[1:] for row in rows], dtype=np.int64).reshape(-1, 2)
        return RequestChunk(times, lengths[:, 0], lengths[:, 1], texts)


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
        spread = Parallelism(
            tensor=server["tensor_parallel"],
            expert=server.get("expert_parallel", 1),
            data=server.get("data_parallel", 1),
        )
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


def unrated(server_spec: ServerSpec) -> ServerSpec:
    """Spares a server with given requests the simulation that tells what it can deliver."""
    rating = Rating(output_tok_s=1000.0, requests_per_s=1.0, power_w=300.0)
    vars(server_spec).update(saturated=rating, rate_per_s=1.0, offered_tok_s=1000.0)
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
        blocks=spec.kv_blocks,
        block_size=spec.block_size,
        max_num_seqs=spec.max_num_seqs,
        token_budget=spec.max_num_batched_tokens,
        max_model_len=spec.max_model_len,
        num_gpus=spec.num_gpus,
        replicas=spec.replicas,
        cap_w=spec.power_cap_w,
        clock_max_mhz=spec.sm_clock_max_mhz,
        settling_s=spec.power_times.cap_settling_s,
        limit_window_s=spec.power_times.limit_window_s,
        sensor_window_s=spec.power_times.sensor_window_s,
        warming_s=spec.power_times.warming_s,
        alpha=spec.system_power[0],
        beta_w=spec.system_power[1],
        lockstep=spec.lockstep,
        max_waiting=spec.max_waiting,
        caching=spec.prefix_caching,
    )
    arrivals = np.random.default_rng(seed).spawn(3)[0]
    stream = server_spec.workload.stream(arrivals, server_spec.rate_per_s)
    return ReferenceServer(facts, _one_by_one(stream, spec), server_spec.workload.concurrency)


def _one_by_one(stream: RequestStream, spec: EngineSpec) -> Iterator[Called]:
    for serial in count():
        times, prompts, outputs, texts = stream.take(1)
        if not len(times):
            return
        text = None if texts is None else tuple(texts[0].tolist())
        prompt = int(prompts[0])
        known = partial(_known_by, spec=spec, text=text, serial=serial, prompt=prompt)
        yield float(times[0]), prompt, int(outputs[0]), known


def _known_by(
    place: int, *, spec: EngineSpec, text: tuple[int, int, int] | None, serial: int, prompt: int
) -> Hashable:
    """Names what a block holds, by the text from the beginning up to its end."""
    own, first_id, shift = (-1, -1, 0) if text is None else text
    end = (place + 1) * spec.block_size
    if end <= min(spec.texts.shared_tokens, prompt):
        return ("shared", place)
    if first_id >= 0 and end <= prompt:
        part = int((end - 1) / spec.texts.part_tokens)
        return ("part", int(spec.texts.ids[first_id + part]) + shift, place)
    return ("session", own, place) if own >= 0 else ("alone", serial, place)
