"""A live server and its GPU without sockets or waiting: a second passes as soon as it may."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from typing_extensions import override

from envs.live.devices.base import DeviceLimits, PowerDevice, Reading
from envs.live.errors import MetricsError
from envs.live.histogram import Histogram
from envs.live.metrics import Snapshot
from envs.live.sampler import IntervalPower, PowerSampler
from envs.live.vllm_plugin.pals_batch_limit.limits import Limits
from envs.telemetry import MEASURED

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, math.inf)
DAY_S = 86_400


class FastClock:
    """A clock that moves on when it is slept on, and a little whenever it is looked at."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        self.now_s += 1e-6
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def unix(self) -> float:
        return self.now_s


@dataclass(kw_only=True)
class StubGpu(PowerDevice):
    """A GPU whose power follows its cap; another program changes the cap now and then."""

    def __post_init__(self) -> None:
        self.power_source = MEASURED
        self.cap_w, self.energy_j, self.last_s = 400.0, 0.0, time.monotonic()

    @override
    def open(self, server_pid: int | None) -> None: ...

    @property
    @override
    def num_gpus(self) -> int:
        return 1

    @property
    @override
    def keys(self) -> list[str]:
        return ["GPU-month"]

    @property
    @override
    def limits(self) -> DeviceLimits:
        return DeviceLimits(100.0, 400.0, 200.0, 1400.0)

    @property
    @override
    def cap_found_w(self) -> float:
        return 400.0

    @override
    def read(self) -> Reading:
        now = time.monotonic()
        power = 0.8 * self.cap_w
        self.energy_j += power * max(0.0, now - self.last_s)
        self.last_s = now
        return Reading(now, (power,), (self.energy_j,), (1200.0,), (self.cap_w,), None, (True,))

    @override
    def take_changes_by_others(self) -> int:
        return int(random.random() < 1e-4)

    @override
    def set_power_cap(self, watts: float) -> None:
        self.cap_w = watts

    @override
    def lock_clock(self, mhz: float | None) -> None: ...

    @override
    def take_control(self) -> dict[str, Any]:
        return {}

    @override
    def restore(self, found: dict[str, Any]) -> None: ...

    @override
    def close(self) -> None: ...


class StubVllm:
    """Answers as vLLM with the plug-in does; starts again now and then; is missed now and then."""

    def __init__(self, clock: FastClock) -> None:
        self._clock = clock
        self._random = random.Random(7)
        self.restarts = 0
        self._start()

    def _start(self) -> None:
        self.limits = Limits(64, 2048)
        self.started_s = self.seen_s = self._clock.now_s
        self.tokens = self.requests = 0.0

    def call(
        self, method: str, path: str, body: Any = None, timeout_s: float | None = None
    ) -> tuple[int, bytes]:
        if path == "/pals/batch_limit":
            if method == "PUT":
                self.limits.change(dict(body), 10)
            self.limits.observe(10)
            state = self.limits.state(10, 0) | {"scheduler": "Stub", "vllm": "0.32.0"}
            return 200, json.dumps(state).encode()
        told = {"/v1/models": {"data": [{"id": "stub"}]}, "/version": {"version": "0.32.0"}}
        return 200, json.dumps(told.get(path, {})).encode()

    def snapshot(self) -> Snapshot:
        """What ``/metrics`` would tell, read already: its text is the same every second."""
        if self._random.random() < 1e-4:
            raise MetricsError("stub: no metrics now")
        if self._random.random() < 1e-5:
            self.restarts += 1
            self._start()
        passed, self.seen_s = self._clock.now_s - self.seen_s, self._clock.now_s
        load = 5.0 + 4.0 * math.sin(self._clock.now_s * 2 * math.pi / DAY_S)
        self.requests += load * passed
        self.tokens += 100.0 * load * passed
        running = min(load * 2.0, float(self.limits.max_num_seqs))
        times = Histogram(
            bounds=BUCKETS,
            counts=tuple(
                round(self.requests * i / len(BUCKETS)) for i in range(1, len(BUCKETS) + 1)
            ),
            total=self.requests,
        )
        return Snapshot(
            gauges={"running": running, "waiting": float(self._random.randrange(3))},
            counters={
                "output_tokens": self.tokens,
                "prompt_tokens": 4 * self.tokens,
                "finished": float(round(self.requests)),
            },
            histograms={"ttft": times, "tpot": times},
            start_time_s=self.started_s,
        )


class NoGuard:
    """Stands in for the guard's process, which would wait in life's own time."""

    def __init__(self, plan: Any, locks: list[int]) -> None:
        self.holds, self.alive = list(locks), True

    def update(self, plan: Any) -> None: ...

    def release(self) -> None: ...

    def restore(self) -> None: ...


def _collect_at_once(sampler: PowerSampler) -> IntervalPower:
    """One reading an interval, without another thread: their meeting takes most of the time."""
    sampler._sample()
    readings, sampler._readings = sampler._readings, sampler._readings[-1:]
    return sampler._told(readings)


def without_waiting(patch: pytest.MonkeyPatch) -> tuple[FastClock, StubVllm]:
    """Lets the live server see a fast clock and a stub instead of a network."""
    from envs.live import clock as clock_module
    from envs.live import custody, http_client, metrics, server

    clock = FastClock()
    stub = StubVllm(clock)
    patch.setattr(time, "monotonic", clock.monotonic)
    patch.setattr(custody, "Guard", NoGuard)
    patch.setattr(PowerSampler, "_run", lambda self: None)
    patch.setattr(PowerSampler, "collect", _collect_at_once)
    patch.setattr(metrics, "fetch", lambda client: stub.snapshot())
    patch.setattr(http_client.HttpClient, "call", lambda self, *a, **k: stub.call(*a, **k))
    made: Callable[[], Any] = lambda: clock_module.ElasticClock(clock.monotonic, clock.sleep)  # noqa: E731
    patch.setattr(server, "ElasticClock", made)
    return clock, stub


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
